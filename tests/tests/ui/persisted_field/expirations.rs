use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[stateful_function(typename = "example/greeter", accepts(Greet))]
struct Greeter {
    #[persisted(expire_after_write = "30d", expire_after_access = "10m")]
    both: PersistedValue<u32>,
    #[persisted(expire_after_write = "30")]
    no_unit: PersistedValue<u32>,
    #[persisted(expire_after_write = "a while")]
    no_number: PersistedValue<u32>,
    #[persisted(expire_after_access = "1h30m")]
    two_units: PersistedValue<u32>,
    #[persisted(expire_after_access = "0s")]
    never_there: PersistedValue<u32>,
    #[persisted(expire_after_access = 30)]
    number: PersistedValue<u32>,
    #[persisted(expire_after_access = "18446744073709551615d")]
    too_long: PersistedValue<u32>,
}

impl Handle<Greet> for Greeter {
    fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
