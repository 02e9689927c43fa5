use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Remind")]
struct Remind {}

#[stateful_function(typename = "example/greeter", accepts(Greet))]
struct Greeter;

impl Handle<Greet> for Greeter {
    fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

#[stateful_function(typename = "example/sender", accepts(Greet), sends(Greeter))]
struct Sender;

impl Handle<Greet> for Sender {
    fn handle(&mut self, greet: Greet, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let _ = greet;
        ctx.send(Greeter::at("a"), Remind {});
        ctx.send_after(Duration::from_secs(1), Greeter::at("a"), Remind {});
        Ok(())
    }
}

fn main() {}
