use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

struct Routers;

impl Routers {
    #[router]
    fn route(&self, _: Greet, _: &mut Downstream<'_>) -> RouterResult {
        Ok(())
    }
}

fn main() {}
