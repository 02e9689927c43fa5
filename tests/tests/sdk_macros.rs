//! What the macros make of an application: definitions, shapes, defaults, registration.

use statefun_core::prelude::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "example/GreetRequest")]
pub struct GreetRequest {
    user_id: String,
    #[serde(default)]
    times: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Remind", format = "msgpack")]
pub(crate) struct Remind {}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greeting")]
struct Greeting(String);

const GREETINGS: EgressId<Greeting> = EgressId::new("example/greetings");

#[persisted]
#[derive(Debug, PartialEq)]
struct Profile {
    visits: u32,
}

#[stateful_function(
    typename = "example/greeter",
    accepts(GreetRequest, Remind, AsyncResult<String, i64>, TypedValue),
    sends(Mailer),
    egress(GREETINGS),
    retry(max_attempts = 3, initial_delay = "30s"),
    max_queue = 10,
    max_fan_out = 2,
)]
struct Greeter {
    #[persisted(name = "seen-count", expire_after_write = "30d")]
    seen_count: PersistedValue<u32>,
    prefix: String,
    #[persisted]
    profiles: PersistedTable<String, Profile>,
}

impl Handle<GreetRequest> for Greeter {
    fn handle(&mut self, request: GreetRequest, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.seen_count += request.times;
        ctx.egress(GREETINGS, &Greeting(format!("{}{}", self.prefix, request.user_id)));
        ctx.send(Mailer::at("x"), Remind {});
        ctx.send_after(Duration::from_secs(1), Self::at(ctx.id()), Remind {}).with_token("t");
        Ok(())
    }
}
impl Handle<Remind> for Greeter {
    fn handle(&mut self, _: Remind, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}
impl Handle<AsyncResult<String, i64>> for Greeter {
    fn handle(&mut self, _: AsyncResult<String, i64>, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}
impl Handle<TypedValue> for Greeter {
    fn handle(&mut self, _: TypedValue, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

#[stateful_function(typename = "example/mailer", accepts(Remind), dynamic_sends)]
struct Mailer;
impl Handle<Remind> for Mailer {
    fn handle(&mut self, _: Remind, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

#[router(ingress = "example/greets", to(Greeter))]
fn greets(request: GreetRequest, out: &mut Downstream<'_>) -> RouterResult {
    out.forward(Greeter::at(&request.user_id), request);
    Ok(())
}

#[test]
fn definition() {
    let definition = Greeter::definition();
    insta::assert_debug_snapshot!((definition.describe(), definition.retry, definition.limits));
}
