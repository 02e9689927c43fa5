use statefun_core::prelude::*;

#[persisted]
struct ProfileV1 {}

#[persisted(version = 0)]
struct Zero {}

#[persisted(version = "2")]
struct InQuotes {}

#[persisted(migrate_from = ProfileV1)]
struct WithoutVersion {}

#[persisted(version = 1, migrate_from = ProfileV1)]
struct TheFirst {}

#[persisted(version = 2, migrate_from = 1)]
struct FromANumber {}

#[persisted(version = 2, migrate_from = ProfileV1)]
struct Generic<T>(T);

fn main() {}
