use statefun_core::prelude::*;

#[derive(Clone, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

fn main() {}
