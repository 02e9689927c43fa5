use statefun_core::prelude::*;

#[persisted(version = 2, migrate_from = ProfileV1)]
struct Profile {}

fn main() {}
