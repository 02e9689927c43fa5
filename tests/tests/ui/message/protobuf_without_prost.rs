use statefun_core::prelude::*;

#[derive(Clone, Message)]
#[message(typename = "example/Greet", format = "protobuf")]
struct Greet {
    name: String,
}

fn main() {}
