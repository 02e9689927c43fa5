use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[derive(Clone, Serialize, Deserialize)]
struct Profile {}

#[stateful_function(typename = "example/greeter", accepts(Greet))]
struct Greeter {
    #[persisted]
    profile: PersistedValue<Profile>,
}

impl Handle<Greet> for Greeter {
    fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
