use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[router]
fn out(_: Greet, _: &mut Vec<Greet>) -> RouterResult {
    Ok(())
}

#[router]
fn result(_: Greet, _: &mut Downstream<'_>) -> bool {
    true
}

fn main() {}
