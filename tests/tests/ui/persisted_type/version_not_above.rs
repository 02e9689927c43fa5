use statefun_core::prelude::*;

#[persisted(version = 2)]
struct ProfileV2 {}

#[persisted(version = 2, migrate_from = ProfileV2)]
struct Profile {}

impl From<ProfileV2> for Profile {
    fn from(_: ProfileV2) -> Self {
        Self {}
    }
}

fn main() {}
