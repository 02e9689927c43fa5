use statefun_core::prelude::*;

#[router(ingress = "example/greets")]
struct Route;

fn main() {}
