use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[stateful_function(
    typename = "example/greeter",
    accepts(Greet),
    retry(max_attempts = 0),
    max_queue = 0,
    max_fan_out = 0,
    max_message_bytes = 0,
    max_state_bytes = 4_294_967_296,
)]
struct Greeter;

impl Handle<Greet> for Greeter {
    fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
