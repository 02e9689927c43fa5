//! A message whose invocation fails is there again as it was, in whichever form it was kept.

use serde::Serializer;

use crate::prelude::*;
use crate::testing::{Harness, WaitKind};

fn odd<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match text {
        "refuses" => Err(serde::ser::Error::custom("it has no form")),
        "panics" => panic!("no form"),
        text => serializer.serialize_str(text),
    }
}

/// Encoded while a handler has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "kept/Packed", format = "msgpack")]
struct Packed {
    #[serde(serialize_with = "odd")]
    text: String,
    times: u32,
}

/// Cloned while a handler has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "kept/Spelled")]
struct Spelled(Packed);

const DONE: EgressId<Packed> = EgressId::new("kept/done");

#[stateful_function(
    typename = "kept/doubter",
    accepts(Packed, Spelled),
    egress(DONE),
    retry(max_attempts = 4, initial_delay = "1s")
)]
struct Doubter {
    #[persisted]
    seen: PersistedValue<u32>,
}

// Outlives the undoing of an invocation; tests run on threads of their own, and so does this.
thread_local! {
    static ATTEMPTS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Doubter {
    fn try_out(&mut self, mut packed: Packed, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.seen += 1;
        if ctx.id() == "x" {
            ctx.egress(DONE, &packed);
        }
        let attempt = ATTEMPTS.get();
        ATTEMPTS.set(attempt + 1);
        if attempt < packed.times {
            packed.text.push_str(", spoilt");
            if attempt % 2 == 0 {
                return Err(HandlerError::new("not yet"));
            }
            panic!("not yet");
        }
        Ok(())
    }
}

impl Handle<Packed> for Doubter {
    fn handle(&mut self, packed: Packed, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.try_out(packed, ctx)
    }
}

impl Handle<Spelled> for Doubter {
    fn handle(&mut self, spelled: Spelled, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.try_out(spelled.0, ctx)
    }
}

fn packed(text: &str, times: u32) -> Packed {
    Packed {
        text: text.to_owned(),
        times,
    }
}

fn app() -> Harness {
    ATTEMPTS.set(0);
    let mut app = Harness::builder().function::<Doubter>().build().unwrap();
    app.settings.check_messages = false;
    app
}

#[test]
fn it_is_tried_again_as_it_was() {
    for times in 0..4 {
        for restarts in [false, true] {
            for spelled in [false, true] {
                let mut app = app();
                let message = packed("a text that is longer than what fits into a value", times);
                if spelled {
                    app.send(Doubter::at("x"), Spelled(message.clone()));
                } else {
                    app.send(Doubter::at("x"), message.clone());
                }
                app.run_until_idle();
                assert_eq!(app.egress(DONE).is_empty(), times > 0);
                if restarts {
                    app.restart();
                }
                app.advance(Duration::from_secs(20));
                assert_eq!(app.egress(DONE), [message]);
                assert_eq!(app.state(Doubter::at("x"), |doubter| *doubter.seen), 1);
                assert_eq!(ATTEMPTS.get(), times + 1);
            }
        }
    }
}

#[test]
fn a_parked_one_is_shown_as_it_was() {
    let mut app = app();
    app.send(Doubter::at("x"), packed("first", 9))
        .send(Doubter::at("x"), packed("second", 9));
    app.advance(Duration::from_mins(1));
    let waiting = app.waiting();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].kind, WaitKind::Parked);
    let queued = app.queued(Doubter::at("x"));
    assert_eq!(queued.len(), 2);
    assert!(
        queued.iter().all(|queued| queued.typename == "kept/Packed"),
        "{queued:?}"
    );
    let failed = app.failures();
    assert_eq!(failed.len(), 4);
    for failure in failed {
        assert_eq!(failure.message.get::<Packed>(), Some(packed("first", 9)));
    }
}

#[test]
fn one_that_cannot_be_encoded_is_handled_all_the_same() {
    for text in ["refuses", "panics"] {
        let mut app = app();
        app.send(Doubter::at("y"), packed(text, 0)).run_until_idle();
        assert_eq!(
            app.state(Doubter::at("y"), |doubter| *doubter.seen),
            1,
            "{text}"
        );
    }
}
