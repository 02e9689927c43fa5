use statefun_core::prelude::*;

#[persisted]
fn profile() {}

fn main() {}
