use statefun_core::prelude::*;

#[derive(Clone, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

fn main() {}
