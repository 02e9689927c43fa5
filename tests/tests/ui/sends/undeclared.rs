use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[stateful_function(typename = "example/greeter", accepts(Greet))]
struct Greeter;

impl Handle<Greet> for Greeter {
    fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

#[stateful_function(typename = "example/sender", accepts(Greet))]
struct Sender;

impl Handle<Greet> for Sender {
    fn handle(&mut self, greet: Greet, ctx: &mut Context<'_, Self>) -> HandlerResult {
        ctx.send(Greeter::at("a"), greet);
        Ok(())
    }
}

fn main() {}
