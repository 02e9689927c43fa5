use statefun_core::prelude::*;

#[derive(Clone, Message)]
#[message(typename = "example/Greet", format = "protobuf")]
enum Greet {
    Name(String),
}

fn main() {}
