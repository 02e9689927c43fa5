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

const OUT: EgressId<Greet> = EgressId::new("example/out");

#[stateful_function(
    typename = "example/other",
    accepts(Greet, AsyncResult<String, i64>, Greet),
    sends(Greeter, Greeter),
    egress(OUT, OUT),
)]
struct Other;

impl Handle<Greet> for Other {
    fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

impl Handle<AsyncResult<String, i64>> for Other {
    fn handle(&mut self, _: AsyncResult<String, i64>, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
