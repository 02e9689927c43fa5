//! How long requests with an idempotency key are remembered: as long as their ingress says, from the request on.

use std::collections::BTreeMap;

use crate::engine::request::{Answer, Request, RequestFunction, request_address};
use crate::prelude::*;
use crate::state::StateReader;
use crate::state::keys::{Space, parse_address_key};
use crate::testing::Harness;
use crate::testing::builder::HARNESS_INGRESS;

#[stateful_function(typename = "requests/kitchen", accepts(String, bool))]
struct Kitchen {
    #[persisted]
    orders: PersistedValue<i64>,
    #[persisted]
    guest: PersistedValue<Option<Address>>,
}

impl Handle<String> for Kitchen {
    fn handle(&mut self, _: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.orders += 1;
        self.guest.set(ctx.caller().cloned());
        Ok(())
    }
}

/// It is ready.
impl Handle<bool> for Kitchen {
    fn handle(&mut self, _: bool, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if let Some(guest) = self.guest.take() {
            ctx.reply_to(guest, "soup".to_owned())?;
        }
        Ok(())
    }
}

const MINUTE: Duration = Duration::from_mins(1);
/// Longer than the pause between two sweeps through what may have expired.
const SWEPT: Duration = Duration::from_hours(4);

struct Restaurant(Harness);

impl Restaurant {
    fn open() -> Self {
        let app = Harness::builder().function::<Kitchen>().build();
        Self(app.unwrap())
    }

    /// Orders under a key; the number of orders so far.
    fn order(&mut self, retention: Duration) -> i64 {
        let soup = TypedValue::from_message(&"soup".to_owned()).unwrap();
        let request = Request {
            ingress: HARNESS_INGRESS.to_owned(),
            connection: 1,
            wait: true,
            retention_ms: retention.as_millis() as u64,
            fingerprint: 7,
            key: None,
            headers: BTreeMap::new(),
            timestamp: self.0.now,
            target: Some(Kitchen::at("k").into_address()),
            typename: soup.typename,
            value: soup.value,
        };
        self.0
            .post(request_address("one"), None, Box::new(request))
            .unwrap();
        self.0.run_until_idle().assert_no_failures();
        self.0.state(Kitchen::at("k"), |kitchen| *kitchen.orders)
    }

    fn serve(&mut self) {
        self.0.send(Kitchen::at("k"), true).run_until_idle();
        assert!(matches!(self.reply(), Some(Answer::Reply(_))));
    }

    fn reply(&mut self) -> Option<Answer> {
        self.0.replies.remove("one")
    }

    /// Rows that remember requests.
    fn remembered(&self) -> usize {
        let own = RequestFunction::type_name().function_type_id();
        let rows = self
            .0
            .store
            .scan(&[Space::State as u8], &[Space::State as u8 + 1], usize::MAX);
        let is_own = |key: &[u8]| parse_address_key(key).unwrap().function == own;
        rows.unwrap().iter().filter(|(key, _)| is_own(key)).count()
    }
}

#[test]
fn a_key_is_remembered_from_the_request_on_however_late_the_reply() {
    let hour = 60 * MINUTE;
    let mut app = Restaurant::open();
    assert_eq!(app.order(hour), 1);
    app.0.advance(30 * MINUTE);
    app.serve();
    app.0.restart().advance(29 * MINUTE);
    assert_eq!(app.order(hour), 1, "it is the same request");
    assert!(matches!(app.reply(), Some(Answer::Reply(_))));
    app.0.advance(MINUTE);
    assert_eq!(app.order(hour), 2, "the key is free again");
}

#[test]
fn nothing_is_left_of_it_then() {
    let hour = 60 * MINUTE;
    for restarts in [false, true] {
        let mut app = Restaurant::open();
        app.order(hour);
        app.0.advance(30 * MINUTE);
        app.serve();
        assert_eq!(app.remembered(), 1);
        app.0.advance(29 * MINUTE);
        assert_eq!(app.remembered(), 1);
        if restarts {
            app.0.restart();
        }
        app.0.advance(SWEPT);
        assert_eq!(app.remembered(), 0, "{restarts}");
    }
}

#[test]
fn it_may_be_long() {
    let day = Duration::from_hours(24);
    let mut app = Restaurant::open();
    assert_eq!(app.order(30 * day), 1);
    app.serve();
    app.0.advance(29 * day).restart();
    assert_eq!(app.order(30 * day), 1);
    app.0.advance(day);
    assert_eq!(app.order(30 * day), 2);
}
