use statefun_core::prelude::*;

enum Kind {}

#[persisted(without(Serialize, Deserialize, Clone))]
struct Profile {
    kind: Kind,
}

fn main() {}
