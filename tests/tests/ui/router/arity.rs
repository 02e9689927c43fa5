use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[router]
fn none() -> RouterResult {
    Ok(())
}

#[router]
fn one(_: Greet) -> RouterResult {
    Ok(())
}

#[router]
fn three(_: Greet, _: &mut Downstream<'_>, _: u32) -> RouterResult {
    Ok(())
}

fn main() {}
