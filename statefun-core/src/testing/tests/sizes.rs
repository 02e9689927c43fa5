//! `max_message_bytes`: what is larger is refused where it comes in, fails the invocation that asks for it, or becomes a
//! dead letter; nothing else is lost.

use crate::io::ingress::{Decoder, Record};
use crate::prelude::*;
use crate::sdk::message::MessageDefinition;
use crate::testing::{DeliveryOutcome, Harness, OnError};

/// A JSON string has two bytes more than its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "sizes/Text")]
struct Text(String);

const OUT: EgressId<Text> = EgressId::new("sizes/out");

#[stateful_function(
    typename = "sizes/narrow",
    accepts(Text, i64, AsyncResult<Text, i64>, TypedValue),
    egress(OUT),
    dynamic_sends,
    max_message_bytes = 10
)]
struct Narrow {
    #[persisted]
    seen: PersistedBuffer<String>,
}

impl Handle<Text> for Narrow {
    fn handle(&mut self, text: Text, _: &mut Context<'_, Self>) -> HandlerResult {
        self.seen.append(text.0);
        Ok(())
    }
}

impl Handle<TypedValue> for Narrow {
    fn handle(&mut self, value: TypedValue, _: &mut Context<'_, Self>) -> HandlerResult {
        self.seen.append(value.typename.to_string());
        Ok(())
    }
}

/// Does one thing with a text of 9 characters.
impl Handle<i64> for Narrow {
    fn handle(&mut self, what: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.seen.append("tried".to_owned());
        match what {
            0 => ctx.egress(OUT, &text(9)),
            1 => drop(ctx.send_after(Duration::from_secs(1), Narrow::at("y"), text(9))),
            2 => ctx.spawn(text(9), async { Ok::<i64, HandlerError>(1) }),
            _ => ctx.send_to(
                Narrow::at("y").into_address(),
                TypedValue::from_message(&text(9))?,
            )?,
        }
        Ok(())
    }
}

impl Handle<AsyncResult<Text, i64>> for Narrow {
    fn handle(&mut self, _: AsyncResult<Text, i64>, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

fn text(len: usize) -> Text {
    Text("x".repeat(len))
}

fn app() -> Harness {
    let app = Harness::builder()
        .function::<Narrow>()
        .targets("sizes/in", [Narrow::type_name()])
        .egress("sizes/bad");
    let bad = OnError::DeadLetter("sizes/bad".to_owned());
    let mut app = app.on_error("sizes/in", bad).build().unwrap();
    app.settings.check_messages = false;
    app
}

fn seen(app: &mut Harness) -> Vec<String> {
    app.state(Narrow::at("x"), |narrow| narrow.seen.view())
        .unwrap()
}

fn undeliverable(app: &Harness) -> Vec<String> {
    app.deliveries()
        .iter()
        .filter_map(|delivery| match &delivery.outcome {
            DeliveryOutcome::Undeliverable { problem } => Some(problem.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_typed_message_is_measured_only_where_it_is_written() {
    let mut app = app();
    app.send(Narrow::at("x"), text(99)).run_until_idle();
    assert_eq!(seen(&mut app), ["x".repeat(99)], "it never was bytes");
    app.forget();

    // Of those that a cut carries, the ones above the limit are dead letters: 8 characters are 10 bytes.
    for len in [8, 9, 1, 99, 2] {
        app.send(Narrow::at("x"), text(len));
    }
    app.commit().unwrap();
    app.restart().run_until_idle();
    let lost = undeliverable(&app);
    assert_eq!(lost.len(), 2);
    assert_eq!(
        lost[0],
        "the message has 101 bytes, and `sizes/narrow` takes 10 at most: send less, or raise its `max_message_bytes`"
    );
    let lens: Vec<usize> = seen(&mut app).iter().map(String::len).collect();
    assert_eq!(lens, [99, 8, 1, 2]);
    assert!(app.waiting().is_empty());
}

#[test]
fn a_message_that_would_wait_in_a_row_is_a_dead_letter_and_the_next_has_its_turn() {
    let mut app = app();
    app.send(Narrow::at("x"), 3)
        .advance(Duration::from_hours(1));
    assert_eq!(
        app.parked().len(),
        1,
        "its send was refused: {:?}",
        app.failures()
    );
    app.send(Narrow::at("x"), text(9))
        .send(Narrow::at("x"), text(1))
        .run_until_idle();
    assert_eq!(undeliverable(&app).len(), 1);
    app.skip(Narrow::at("x")).run_until_idle();
    assert_eq!(seen(&mut app), ["x"]);
}

#[test]
fn what_an_invocation_asks_for_fails_it() {
    for (what, problem) in [
        (
            0,
            "a record for the egress `sizes/out` has 11 bytes, and `sizes/narrow` writes 10 at most",
        ),
        (1, "the message has 11 bytes"),
        (2, "bytes, and `sizes/narrow` takes 10 at most"),
        (3, "the message has 11 bytes"),
    ] {
        let mut app = app();
        app.send(Narrow::at("x"), what)
            .advance(Duration::from_hours(1));
        let parked = app.parked();
        assert!(parked[0].problem.contains(problem), "{what}: {parked:?}");
        assert!(seen(&mut app).is_empty() && app.egress(OUT).is_empty());
        assert!(app.operations().is_empty());
    }
}

#[test]
fn a_typed_message_to_a_function_that_takes_any_value_is_measured_when_it_becomes_one() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
    #[message(typename = "sizes/Other")]
    struct Other(String);

    let mut app = app();
    let other = |len| Box::new(Other("x".repeat(len)));
    for body in [other(8), other(9)] {
        let envelope = crate::engine::envelope::Envelope {
            to: Narrow::at("x").into_address(),
            from: None,
            body,
        };
        app.worker
            .receive(app.worker.epoch(), vec![envelope])
            .unwrap();
    }
    app.run_until_idle();
    assert_eq!(seen(&mut app), ["sizes/Other"]);
    assert_eq!(undeliverable(&app).len(), 1);
}

#[test]
fn a_record_that_a_target_does_not_take_is_refused_with_its_bytes() {
    let mut app = app();
    let index = app.registry.ingress_index("sizes/in").unwrap();
    let decoder = Decoder::new([MessageDefinition::of::<Text>()])
        .with_limit(app.registry.record_limit(index));
    let refused = decoder
        .decode("sizes/Text", r#""123456789""#.into())
        .unwrap_err();
    assert_eq!(
        refused.problem(),
        "the record has 11 bytes, and a target of this ingress takes 10 at most: send less, or raise the function's \
         `max_message_bytes`"
    );
    let record = |json: &'static str| app_record(&app, json);
    let (fits, too_large) = (record(r#""12345678""#), record(r#""123456789""#));
    app.ingest("sizes/in", fits)
        .ingest("sizes/in", too_large)
        .run_until_idle();
    assert_eq!(seen(&mut app), ["12345678"]);
    assert_eq!(app.egress_bytes("sizes/bad"), [r#""123456789""#]);
}

fn app_record(app: &Harness, json: &'static str) -> Record {
    let index = app.registry.ingress_index("sizes/in").unwrap();
    let decoder = app
        .registry
        .decoder()
        .with_limit(app.registry.record_limit(index));
    let value = decoder.decode("sizes/Text", json.into());
    Record::of(value.map_err(|error| crate::io::ingress::BadRecord {
        bytes: json.into(),
        problem: error.to_string(),
    }))
    .with_key("x")
}

#[test]
fn the_harness_tells_an_author_of_every_message_above_the_limit() {
    let mut app = Harness::builder().function::<Narrow>().build().unwrap();
    let error = app
        .try_send_to(
            Narrow::at("x").into_address(),
            TypedValue::from_message(&text(9)).unwrap(),
        )
        .unwrap_err();
    assert!(error.to_string().contains("takes 10 at most"), "{error}");
    let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        app.send(Narrow::at("x"), text(9));
    }));
    assert!(
        sent.is_err(),
        "a typed one is measured here, though no production run might"
    );
}
