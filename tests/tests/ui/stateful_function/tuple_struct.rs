use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[stateful_function(typename = "example/greeter", accepts(Greet))]
struct Greeter(PersistedValue<u32>);

impl Handle<Greet> for Greeter {
    fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
