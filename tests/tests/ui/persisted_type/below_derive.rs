use statefun_core::prelude::*;

#[derive(Message)]
#[message(typename = "example/Profile")]
#[persisted]
struct Profile {}

fn main() {}
