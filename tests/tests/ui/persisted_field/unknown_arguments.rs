use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[stateful_function(typename = "example/greeter", accepts(Greet))]
struct Greeter {
    #[persisted(nam = "seen")]
    seen: PersistedValue<u32>,
    #[persisted(expire_afterwrite = "30d")]
    also_seen: PersistedValue<u32>,
    #[persisted(version = 2)]
    seen_too: PersistedValue<u32>,
    #[persisted = "seen-by"]
    seen_by: PersistedValue<u32>,
}

impl Handle<Greet> for Greeter {
    fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
