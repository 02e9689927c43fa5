use statefun_core::prelude::*;

#[persisted]
struct ProfileV1 {}

#[persisted(version = 2, migrate_from = ProfileV1)]
struct Profile {}

struct NotShown;

#[persisted(version = 2, migrate_from = ProfileV1)]
struct WithAnErrorThatCannotBeShown {}

impl TryFrom<ProfileV1> for WithAnErrorThatCannotBeShown {
    type Error = NotShown;

    fn try_from(_: ProfileV1) -> Result<Self, NotShown> {
        Err(NotShown)
    }
}

fn main() {}
