use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[router]
fn by_reference(_: &Greet, _: Downstream<'_>) {}

fn main() {}
