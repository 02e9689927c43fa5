use statefun_core::prelude::*;

#[persisted(name = "profile", expire_after_write = "30d")]
struct Profile {}

fn main() {}
