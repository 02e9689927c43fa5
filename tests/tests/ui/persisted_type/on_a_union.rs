use statefun_core::prelude::*;

#[persisted]
union Profile {
    a: u32,
}

fn main() {}
