//! Messages, egress records, requests, and what was seen of them.

use statefun_core::prelude::*;
use statefun_core::testing::{Harness, HarnessError};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "basics/Greet")]
struct Greet {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "basics/Email", format = "msgpack")]
struct Email {
    body: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "basics/Greeting")]
struct Greeting(String);

const GREETINGS: EgressId<Greeting> = EgressId::new("basics/greetings");

#[stateful_function(
    typename = "basics/greeter",
    accepts(Greet),
    sends(Mailer),
    egress(GREETINGS)
)]
struct Greeter {
    #[persisted]
    seen: PersistedValue<u32>,
}

impl Handle<Greet> for Greeter {
    fn handle(&mut self, greet: Greet, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.seen += 1;
        let text = format!("Hello {} ({})", greet.name, *self.seen);
        ctx.egress(GREETINGS, &Greeting(text.clone()));
        ctx.send(Mailer::at(ctx.id()), Email { body: text.clone() });
        if ctx.caller().is_some() {
            ctx.reply(Greeting(text))?;
        }
        Ok(())
    }
}

#[stateful_function(typename = "basics/mailer", accepts(Email))]
struct Mailer {
    #[persisted]
    mails: PersistedBuffer<String>,
}

impl Handle<Email> for Mailer {
    fn handle(&mut self, email: Email, _: &mut Context<'_, Self>) -> HandlerResult {
        self.mails.append(email.body);
        Ok(())
    }
}

/// Asks a greeter, and keeps what it is answered.
#[stateful_function(typename = "basics/asker", accepts(String, Greeting), sends(Greeter))]
struct Asker {
    #[persisted]
    answers: PersistedBuffer<String>,
}

impl Handle<String> for Asker {
    fn handle(&mut self, name: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
        ctx.send(Greeter::at(&name), Greet { name: name.clone() });
        Ok(())
    }
}

impl Handle<Greeting> for Asker {
    fn handle(&mut self, greeting: Greeting, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let from = ctx.caller().map(ToString::to_string).unwrap_or_default();
        self.answers.append(format!("{from}: {}", greeting.0));
        Ok(())
    }
}

/// Sends each number on to the other, for ever.
#[stateful_function(typename = "basics/ping", accepts(i64), sends(Pong))]
struct Ping {}
#[stateful_function(typename = "basics/pong", accepts(i64), sends(Ping))]
struct Pong {}

impl Handle<i64> for Ping {
    fn handle(&mut self, number: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        ctx.send(Pong::at(ctx.id()), number + 1);
        Ok(())
    }
}
impl Handle<i64> for Pong {
    fn handle(&mut self, number: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        ctx.send(Ping::at(ctx.id()), number + 1);
        Ok(())
    }
}

fn app() -> Harness {
    Harness::builder()
        .function::<Greeter>()
        .function::<Mailer>()
        .function::<Asker>()
        .build()
        .unwrap()
}

fn greet(name: &str) -> Greet {
    Greet {
        name: name.to_owned(),
    }
}

#[test]
fn a_message_changes_state_and_leads_to_others() {
    let mut app = app();
    app.send(Greeter::at("bob"), greet("Bob"))
        .send(Greeter::at("ann"), greet("Ann"))
        .send(Greeter::at("bob"), greet("B."));
    assert!(app.deliveries().is_empty(), "nothing runs by itself");
    app.run_until_idle().assert_no_failures();

    let all = [
        Greeting("Hello Bob (1)".into()),
        Greeting("Hello Ann (1)".into()),
        Greeting("Hello B. (2)".into()),
    ];
    assert_eq!(app.egress(GREETINGS), all);
    assert_eq!(
        app.take_egress(GREETINGS),
        all,
        "looking at them leaves them there"
    );
    assert_eq!(app.egress(GREETINGS), [], "taking them does not");
    assert_eq!(app.state(Greeter::at("bob"), |greeter| *greeter.seen), 2);
    assert_eq!(
        app.state(Greeter::at("nobody"), |greeter| greeter.seen.get().copied()),
        None
    );
    assert_eq!(
        app.sent_to::<Email>(Mailer::at("ann")),
        [Email {
            body: "Hello Ann (1)".into()
        }]
    );
    assert_eq!(
        app.sent_to::<Greet>(Mailer::at("ann")),
        [],
        "of that type there was none"
    );
    let mails = app
        .state(Mailer::at("bob"), |mailer| mailer.mails.view())
        .unwrap();
    assert_eq!(mails, ["Hello Bob (1)", "Hello B. (2)"]);

    assert_eq!(app.deliveries().len(), 6);
    let mail = app
        .sent()
        .iter()
        .find(|sent| sent.message.type_name() == "basics/Email")
        .unwrap();
    assert_eq!(mail.from.as_ref(), Some(Greeter::at("bob").address()));
    assert_eq!(
        mail.message.get(),
        Some(Email {
            body: "Hello Bob (1)".into()
        })
    );
    assert_eq!(mail.message.get::<Greet>(), None);
    assert_eq!(
        mail.message.get::<TypedValue>().unwrap().typename,
        "basics/Email"
    );
    assert_eq!(
        format!("{:?}", app.sent()[0].message),
        r#"basics/Greet {"name":"Bob"}"#
    );
    app.forget();
    assert!(app.sent().is_empty() && app.deliveries().is_empty());
}

#[test]
fn output_leaves_when_the_epoch_ends() {
    let mut app = app();
    let request = app.request(Greeter::at("bob"), greet("Bob"));
    app.send(Greeter::at("ann"), greet("Ann")).run(usize::MAX);
    assert_eq!(app.state(Greeter::at("ann"), |greeter| *greeter.seen), 1);
    assert_eq!(app.egress(GREETINGS), []);
    assert_eq!(app.reply::<Greeting>(&request), None);
    app.run_until_idle();
    assert_eq!(app.egress(GREETINGS).len(), 2);
    assert_eq!(app.reply(&request), Some(Greeting("Hello Bob (1)".into())));
}

#[test]
fn replies_go_to_whoever_asked() {
    let mut app = app();
    app.send(Asker::at("x"), "bob".to_owned()).run_until_idle();
    app.send_from(Asker::at("y"), Greeter::at("bob"), greet("Y"))
        .run_until_idle();
    app.send(Greeter::at("bob"), greet("nobody"))
        .run_until_idle();
    let reply: Greeting = app.call(Greeter::at("bob"), greet("client"));
    assert_eq!(reply, Greeting("Hello client (4)".into()));
    let mut answers = |id: &str| {
        app.state(Asker::at(id), |asker| asker.answers.view())
            .unwrap()
    };
    assert_eq!(answers("x"), ["basics/greeter/bob: Hello bob (1)"]);
    assert_eq!(answers("y"), ["basics/greeter/bob: Hello Y (2)"]);
    app.assert_no_failures();
    assert!(
        app.sent()
            .iter()
            .all(|sent| !sent.to.to_string().starts_with("io.statefun/")),
        "requests are no function of the author's"
    );
}

#[test]
fn two_requests_get_their_own_replies() {
    let mut app = app();
    let first = app.request(Greeter::at("bob"), greet("one"));
    let second = app.request(Greeter::at("bob"), greet("two"));
    app.run_until_idle();
    assert_eq!(app.reply::<Greeting>(&first).unwrap().0, "Hello one (1)");
    assert_eq!(app.reply::<Greeting>(&second).unwrap().0, "Hello two (2)");
}

#[test]
#[should_panic(expected = "basics/mailer/bob has not replied")]
fn a_call_without_a_reply_fails_the_test() {
    let _: Greeting = app().call(
        Mailer::at("bob"),
        Email {
            body: String::new(),
        },
    );
}

#[test]
#[should_panic(
    expected = "the reply of basics/greeter/bob: basics/Email: the value is a `basics/Greeting`"
)]
fn a_reply_of_another_type_fails_the_test() {
    let _: Email = app().call(Greeter::at("bob"), greet("Bob"));
}

#[test]
#[should_panic(
    expected = "no function `basics/ping` in this harness: add it with `.function::<…>()`, `.linked()` or \
                `.stub(\"basics/ping\")` (there are basics/asker, basics/greeter, basics/mailer)"
)]
fn a_message_for_a_function_that_is_not_there_fails_the_test() {
    app().send(Ping::at("x"), 1);
}

#[test]
#[should_panic(expected = "no function `basics/ping`")]
fn a_caller_that_is_not_there_fails_the_test() {
    app().send_from(Ping::at("x"), Greeter::at("bob"), greet("Bob"));
}

#[test]
#[should_panic(expected = "no egress `basics/other` in this harness")]
fn an_egress_that_is_not_there_fails_the_test() {
    app().egress(EgressId::<Greeting>::new("basics/other"));
}

#[test]
#[should_panic(expected = "egress `basics/greetings`: a record is")]
fn an_egress_of_another_type_fails_the_test() {
    let mut app = app();
    app.send(Greeter::at("bob"), greet("Bob")).run_until_idle();
    app.egress(EgressId::<Email>::new("basics/greetings"));
}

#[test]
fn a_function_that_sends_beyond_the_harness_is_a_failure() {
    let mut app = Harness::builder().function::<Greeter>().build().unwrap();
    app.send(Greeter::at("bob"), greet("Bob")).run_until_idle();
    let failures: Vec<String> = app.failures().iter().map(ToString::to_string).collect();
    assert_eq!(
        failures,
        ["basics/Email at basics/mailer/bob: no function `basics/mailer` in this application"]
    );
}

#[test]
fn a_stub_takes_what_it_is_sent() {
    let mut app = Harness::builder()
        .function::<Greeter>()
        .function::<Mailer>()
        .stub("basics/mailer")
        .build()
        .unwrap();
    app.send(Greeter::at("bob"), greet("Bob"))
        .run_until_idle()
        .assert_no_failures();
    let mailer = app.address("basics/mailer", "bob");
    assert_eq!(
        app.sent_to::<Email>(mailer),
        [Email {
            body: "Hello Bob (1)".into()
        }]
    );
    app.restart()
        .send(Greeter::at("bob"), greet("Bob"))
        .run_until_idle()
        .assert_no_failures();
    assert_eq!(app.sent_to::<Email>(Mailer::at("bob")).len(), 2);
}

#[test]
fn a_cycle_that_never_ends_names_who_takes_part() {
    let mut app = Harness::builder()
        .function::<Ping>()
        .function::<Pong>()
        .message_limit(1000)
        .build()
        .unwrap();
    app.send(Ping::at("a"), 0);
    let error = app.try_run_until_idle().unwrap_err();
    assert!(
        matches!(&error, HarnessError::Endless { limit: 1000, addresses } if addresses.len() == 2),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("still not idle after 1000 messages"),
        "{text}"
    );
    assert!(
        text.contains("basics/ping/a (500), basics/pong/a (500)"),
        "{text}"
    );
}

#[test]
fn a_limit_that_is_just_reached_is_no_cycle() {
    let mut app = Harness::builder()
        .function::<Mailer>()
        .message_limit(10)
        .build()
        .unwrap();
    for _ in 0..10 {
        app.send(
            Mailer::at("x"),
            Email {
                body: String::new(),
            },
        );
    }
    app.run_until_idle();
    assert_eq!(app.deliveries().len(), 10);
}

#[test]
fn randomness_follows_the_seed() {
    let draw = |seed| -> i64 {
        let mut app = Harness::builder()
            .function::<Dice>()
            .seed(seed)
            .build()
            .unwrap();
        app.call(Dice::at("x"), false)
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

#[stateful_function(typename = "basics/dice", accepts(bool))]
struct Dice {}
impl Handle<bool> for Dice {
    fn handle(&mut self, _: bool, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let drawn = ctx.random().next_u64() as i64;
        Ok(ctx.reply(drawn)?)
    }
}

/// JSON has no maps whose keys are no strings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "basics/Grid")]
struct Grid(std::collections::BTreeMap<(u8, u8), bool>);

/// Written without what the reader needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "basics/Lossy")]
struct Lossy {
    #[serde(skip_serializing)]
    text: String,
}

#[stateful_function(typename = "basics/sink", accepts(Grid, Lossy, bool))]
struct Sink {}

impl Handle<Grid> for Sink {
    fn handle(&mut self, _: Grid, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}
impl Handle<Lossy> for Sink {
    fn handle(&mut self, _: Lossy, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}
impl Handle<bool> for Sink {
    fn handle(&mut self, grid: bool, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if grid {
            ctx.send(Sink::at("x"), Grid([((1, 2), true)].into()));
        } else {
            ctx.send(
                Sink::at("x"),
                Lossy {
                    text: "gone".to_owned(),
                },
            );
        }
        Ok(())
    }
}

#[test]
fn a_message_that_does_not_survive_its_encoding_fails_the_test_though_it_never_needed_it() {
    for (grid, problem) in [
        (true, "basics/Grid: key must be a string"),
        (false, "basics/Lossy: missing field `text`"),
    ] {
        let mut app = Harness::builder().function::<Sink>().build().unwrap();
        app.send(Sink::at("x"), grid);
        let error = app.try_run_until_idle().unwrap_err().to_string();
        let expected =
            format!("the message for basics/sink/x cannot be written and read back: {problem}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
#[should_panic(
    expected = "the message for basics/sink/x cannot be written and read back: basics/Grid: key must be a string"
)]
fn a_message_of_the_test_that_does_not_survive_its_encoding_fails_it() {
    let mut app = Harness::builder().function::<Sink>().build().unwrap();
    app.send(Sink::at("x"), Grid([((1, 2), true)].into()));
}
