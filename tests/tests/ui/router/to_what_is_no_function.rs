use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[router(to(Greet))]
fn route(_: Greet, _: &mut Downstream<'_>) -> RouterResult {
    Ok(())
}

fn main() {}
