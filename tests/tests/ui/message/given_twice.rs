use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
#[message(typename = "example/Greeting", fromat = "json")]
struct Greet {}

fn main() {}
