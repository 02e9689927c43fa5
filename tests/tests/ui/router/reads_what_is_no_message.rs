use statefun_core::prelude::*;

struct NoMessage;

#[router]
fn route(_: NoMessage, _: &mut Downstream<'_>) -> RouterResult {
    Ok(())
}

fn main() {}
