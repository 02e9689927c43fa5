use statefun_core::prelude::*;

#[persisted(without(Debug, std::default::Default))]
struct Profile {}

fn main() {}
