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

#[router(to(Greeter))]
async fn route(message: Greet, out: &mut Downstream<'_>) -> RouterResult {
    out.forward(Greeter::at("a"), message);
    Ok(())
}

fn main() {}
