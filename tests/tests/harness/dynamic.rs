//! Addresses and values known only at run time.

use statefun_core::prelude::*;
use statefun_core::testing::{Harness, HarnessError};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "dynamic/Envelope")]
struct Letter {
    function: String,
    id: String,
    typename: String,
    value: String,
}

/// Sends what it is told to where it is told to.
#[stateful_function(
    typename = "dynamic/gateway",
    accepts(Letter, TypedValue),
    dynamic_sends
)]
struct Gateway {
    #[persisted]
    seen: PersistedBuffer<String>,
}

impl Handle<Letter> for Gateway {
    fn handle(&mut self, letter: Letter, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let to = Address::new(TypeName::parse(&letter.function)?, letter.id);
        self.seen.append(format!("letter for {to}"));
        ctx.send_to(
            to,
            TypedValue {
                typename: letter.typename.into(),
                value: letter.value.into(),
            },
        )?;
        Ok(())
    }
}

impl Handle<TypedValue> for Gateway {
    fn handle(&mut self, value: TypedValue, _: &mut Context<'_, Self>) -> HandlerResult {
        self.seen.append(format!(
            "{} {:?}",
            value.typename,
            String::from_utf8_lossy(&value.value)
        ));
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "dynamic/Note")]
struct Note {
    text: String,
}

#[stateful_function(typename = "dynamic/pinboard", accepts(Note))]
struct Pinboard {
    #[persisted]
    notes: PersistedBuffer<String>,
}

impl Handle<Note> for Pinboard {
    fn handle(&mut self, note: Note, _: &mut Context<'_, Self>) -> HandlerResult {
        self.notes.append(note.text);
        Ok(())
    }
}

fn app() -> Harness {
    let app = Harness::builder()
        .function::<Gateway>()
        .function::<Pinboard>()
        .stub("dynamic/python");
    app.build().unwrap()
}

fn value(typename: &str, value: &'static str) -> TypedValue {
    TypedValue {
        typename: typename.into(),
        value: value.into(),
    }
}

fn letter(function: &str, typename: &str, value: &str) -> Letter {
    let owned = str::to_owned;
    Letter {
        function: owned(function),
        id: owned("x"),
        typename: owned(typename),
        value: owned(value),
    }
}

#[test]
fn a_dynamic_value_reaches_a_typed_handler() {
    let mut app = app();
    app.send_to(
        Pinboard::at("x").into_address(),
        value("dynamic/Note", r#"{"text":"one"}"#),
    );
    app.send(
        Gateway::at("g"),
        letter("dynamic/pinboard", "dynamic/Note", r#"{"text":"two"}"#),
    );
    app.run_until_idle().assert_no_failures();
    assert_eq!(
        app.state(Pinboard::at("x"), |board| board.notes.view())
            .unwrap(),
        ["one", "two"]
    );
    assert_eq!(
        app.sent_to::<Note>(Pinboard::at("x")).len(),
        2,
        "decoded, however it was sent"
    );
}

#[test]
fn whoever_takes_any_value_gets_typed_ones_too() {
    let mut app = app();
    app.send_to(
        Gateway::at("g").into_address(),
        value("unheard/Of", "bytes"),
    );
    let note = TypedValue::from_message(&Note { text: "hi".into() }).unwrap();
    app.send_to(app.address("dynamic/gateway", "g"), note)
        .restart()
        .run_until_idle()
        .assert_no_failures();
    let seen = app
        .state(Gateway::at("g"), |gateway| gateway.seen.view())
        .unwrap();
    assert_eq!(
        seen,
        [
            r#"unheard/Of "bytes""#,
            r#"dynamic/Note "{\"text\":\"hi\"}""#
        ]
    );
}

#[test]
fn functions_in_other_languages_are_stubs() {
    let mut app = app();
    app.send(
        Gateway::at("g"),
        letter("dynamic/python", "any/Type", "payload"),
    )
    .run_until_idle()
    .assert_no_failures();
    let to = app.address("dynamic/python", "x");
    assert_eq!(
        app.sent_to::<TypedValue>(to),
        [value("any/Type", "payload")]
    );
}

#[test]
fn a_request_with_a_dynamic_value() {
    let mut app = app();
    let request = app.request_to(
        app.address("dynamic/python", "x"),
        value("any/Type", "payload"),
    );
    app.run_until_idle();
    assert_eq!(app.reply::<Note>(&request), None, "a stub does not reply");
}

#[test]
fn what_cannot_be_sent_is_an_error_that_says_why() {
    let mut app = app();
    let board = Pinboard::at("x").into_address();
    let mut error =
        |to: &Address, value: TypedValue| app.try_send_to(to.clone(), value).unwrap_err();
    let not_accepted = error(&board, value("dynamic/Other", ""));
    assert!(matches!(not_accepted, HarnessError::Send { .. }));
    assert!(
        not_accepted
            .to_string()
            .contains("`dynamic/pinboard` does not accept `dynamic/Other`"),
        "{not_accepted}"
    );
    let undecodable = error(&board, value("dynamic/Note", r#"{"txt":"one"}"#));
    assert!(matches!(undecodable, HarnessError::Undecodable { .. }));
    assert_eq!(
        undecodable.to_string(),
        "the value for dynamic/pinboard/x is not what its type says: dynamic/Note: missing field `text` at line 1 column 13"
    );
    let nowhere = Address::new(TypeName::parse("dynamic/nowhere").unwrap(), "x");
    assert!(matches!(
        error(&nowhere, value("dynamic/Note", "")),
        HarnessError::UnknownFunction { .. }
    ));
}

#[test]
fn a_handler_that_sends_to_nowhere_fails() {
    for (function, problem) in [
        (
            "dynamic/nowhere",
            "no function `dynamic/nowhere` in this application",
        ),
        (
            "dynamic/pinboard",
            "`dynamic/pinboard` does not accept `any/Type`",
        ),
        ("nonsense", "`nonsense` is not a type name"),
    ] {
        let mut app = app();
        app.send(Gateway::at("g"), letter(function, "any/Type", ""))
            .run_until_idle();
        let failures = app.failures();
        assert!(
            failures[0].problem().unwrap().starts_with(problem),
            "{failures:?}"
        );
        assert_eq!(app.state(Gateway::at("g"), |gateway| gateway.seen.len()), 0);
    }
}

#[test]
fn bytes_that_do_not_decode_park_their_address_at_once() {
    let mut app = app();
    app.send(
        Gateway::at("g"),
        letter("dynamic/pinboard", "dynamic/Note", "junk"),
    )
    .run_until_idle();
    let parked = app.parked();
    assert_eq!(
        (parked[0].function.as_str(), parked[0].attempts),
        ("dynamic/pinboard", 1)
    );
    let queued = app.queued(Pinboard::at("x"));
    assert_eq!(
        (queued[0].typename.as_str(), queued[0].value.as_str()),
        ("dynamic/Note", "junk")
    );
    assert_eq!(queued[0].from.as_deref(), Some("dynamic/gateway/g"));
}
