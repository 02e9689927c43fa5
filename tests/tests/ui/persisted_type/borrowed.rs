use statefun_core::prelude::*;

#[persisted]
struct Profile<'a> {
    name: std::borrow::Cow<'a, str>,
}

fn main() {}
