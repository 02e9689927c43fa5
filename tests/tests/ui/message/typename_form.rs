use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "Greet")]
struct Greet {}

fn main() {}
