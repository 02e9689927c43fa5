use statefun_core::prelude::*;

#[derive(Clone, Copy, Message)]
#[message(typename = "example/Greet")]
union Greet {
    a: u32,
}

fn main() {}
