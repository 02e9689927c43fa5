use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[stateful_function(typename = "greeter", acepts(Greet), sends(Mailer), egress(), retry(max_attempts = 0))]
struct Greeter {
    #[persisted(nam = "seen", expire_after_write = "30 days")]
    seen: PersistedValue<u32>,
    #[persisted(name = "seen")]
    also_seen: PersistedValue<u32>,
    forgotten: PersistedBuffer<String>,
}

impl Handle<Greet> for Greeter {
    fn handle(&mut self, greet: Greet, ctx: &mut Context<'_, Self>) -> HandlerResult {
        // No further errors here: function, state and targets are there, whatever is wrong above.
        *self.seen += 1;
        *self.also_seen += 1;
        ctx.send(Mailer::at(ctx.id()), greet);
        Ok(())
    }
}

#[stateful_function(typename = "example/mailer", accepts(Greet), max_queu = 1)]
struct Mailer;

impl Handle<Greet> for Mailer {
    fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
