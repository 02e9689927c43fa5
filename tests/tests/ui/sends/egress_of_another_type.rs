use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Remind")]
struct Remind {}

#[stateful_function(typename = "example/sender", accepts(Greet), egress(OUT))]
struct Sender;

impl Handle<Greet> for Sender {
    fn handle(&mut self, greet: Greet, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let _ = greet;
        ctx.egress(OUT, &Remind {});
        Ok(())
    }
}

const OUT: EgressId<Greet> = EgressId::new("example/out");

fn main() {}
