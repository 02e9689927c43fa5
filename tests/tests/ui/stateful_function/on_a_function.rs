use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[stateful_function(typename = "example/greeter", accepts(Greet))]
fn greeter(_: Greet) {}

fn main() {}
