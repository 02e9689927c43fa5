use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[router]
fn route<M: Message>(_: M, _: &mut Downstream<'_>) -> RouterResult {
    Ok(())
}

#[router]
fn other(_: impl Message, _: &mut Downstream<'_>) -> RouterResult {
    Ok(())
}

fn main() {}
