use statefun_core::prelude::*;

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

fn main() {}
