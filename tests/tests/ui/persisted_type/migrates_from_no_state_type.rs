use statefun_core::prelude::*;

struct ProfileV1 {}

#[persisted(version = 2, migrate_from = ProfileV1)]
struct Profile {}

impl From<ProfileV1> for Profile {
    fn from(_: ProfileV1) -> Self {
        Self {}
    }
}

fn main() {}
