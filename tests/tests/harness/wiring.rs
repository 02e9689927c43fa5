//! Ingresses, routers, targets; and that code keeps to what its attributes say.

use statefun_core::io::ingress::Record;
use statefun_core::prelude::*;
use statefun_core::testing::{Harness, OnError, WaitKind};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "wiring/Line")]
struct Line {
    words: Vec<String>,
}

const DECLARED: EgressId<String> = EgressId::new("wiring/declared");
const SECRET: EgressId<String> = EgressId::new("wiring/secret");

#[stateful_function(typename = "wiring/word", accepts(String), egress(DECLARED))]
struct Word {
    #[persisted]
    count: PersistedValue<u32>,
}

impl Handle<String> for Word {
    fn handle(&mut self, text: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.count += 1;
        ctx.egress(DECLARED, &text);
        if text == "leak" {
            ctx.egress(SECRET, &text);
        }
        Ok(())
    }
}

#[stateful_function(typename = "wiring/line", accepts(Line), egress(SECRET))]
struct Lines {
    #[persisted]
    lines: PersistedBuffer<Line>,
}

impl Handle<Line> for Lines {
    fn handle(&mut self, line: Line, _: &mut Context<'_, Self>) -> HandlerResult {
        self.lines.append(line);
        Ok(())
    }
}

/// Fans out, drops, fails; and once goes where it does not say.
#[router(ingress = "wiring/lines", to(Word))]
fn words(line: Line, out: &mut Downstream<'_>) -> RouterResult {
    let source = out.header("source").unwrap_or("?").to_owned();
    for word in &line.words {
        match word.as_str() {
            "fail" => return Err(RouterError::new("a word that fails")),
            "astray" => out.forward(Lines::at("x"), line.clone()),
            "astray-dynamically" => {
                out.forward_to(
                    Lines::at("x").into_address(),
                    TypedValue::from_message(&line)?,
                );
            }
            "wrong-type" => out.forward_to(
                Word::at("x").into_address(),
                TypedValue::from_message(&line)?,
            ),
            word => out.forward(Word::at(word), format!("{word} from {source}")),
        }
    }
    Ok(())
}

/// Not bound to an ingress by its attribute.
#[router(to(Lines))]
fn whole_lines(line: Line, out: &mut Downstream<'_>) -> RouterResult {
    let key = out.key().unwrap_or("none").to_owned();
    out.forward(Lines::at(key), line);
    Ok(())
}

fn line(words: &[&str]) -> Line {
    Line {
        words: words.iter().map(ToString::to_string).collect(),
    }
}

fn app() -> Harness {
    Harness::builder()
        .function::<Word>()
        .function::<Lines>()
        .router("words")
        .build()
        .unwrap()
}

#[test]
fn a_router_fans_out_and_knows_the_record() {
    let mut app = app();
    let mut record = Record::new(line(&["a", "b", "a"]));
    record
        .headers
        .insert("source".to_owned(), "file".to_owned());
    app.ingest("wiring/lines", record)
        .ingest("wiring/lines", Record::new(line(&[])))
        .run_until_idle();
    assert_eq!(
        app.egress(DECLARED),
        ["a from file", "b from file", "a from file"]
    );
    assert_eq!(app.state(Word::at("a"), |word| *word.count), 2);
}

#[test]
fn targets_get_the_record_at_its_key_and_routers_too() {
    let app = Harness::builder().function::<Lines>().function::<Word>();
    let app = app
        .targets("wiring/lines", [Lines::type_name()])
        .routers("wiring/lines", ["words", "whole_lines"]);
    let mut app = app.build().unwrap();
    app.ingest("wiring/lines", Record::new(line(&["a"])).with_key("k"))
        .run_until_idle()
        .assert_no_failures();
    let lines = app
        .state(Lines::at("k"), |lines| lines.lines.view())
        .unwrap();
    assert_eq!(lines, [line(&["a"]), line(&["a"])]);
    assert_eq!(app.egress(DECLARED), ["a from ?"]);
    let error = app
        .try_ingest("wiring/lines", Record::new(line(&["a"])))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ingress `wiring/lines` refused the record: the record has no key, and `wiring/line` needs one as its id"
    );
    assert_eq!(
        app.run_until_idle().egress(DECLARED).len(),
        1,
        "nothing of a refused record is routed"
    );
}

#[test]
fn a_refused_record_leaves_nothing() {
    for (words, problem) in [
        (["a", "fail"], "router `words`: a word that fails"),
        (
            ["a", "astray"],
            "router `words`: it forwards to `wiring/line`, which is not under its `to(…)`: list the function there, \
             so that `statefun graph` and `validate` know the edge",
        ),
        (
            ["a", "astray-dynamically"],
            "router `words`: it forwards to `wiring/line`, which is not under its `to(…)`",
        ),
        (
            ["a", "wrong-type"],
            "router `words`: `wiring/word` does not accept `wiring/Line`",
        ),
    ] {
        let mut app = app();
        let error = app
            .try_ingest("wiring/lines", Record::new(line(&words)))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!(
                "ingress `wiring/lines` refused the record: {problem}"
            )),
            "{error}"
        );
        app.run_until_idle();
        assert!(app.deliveries().is_empty());
    }
}

#[test]
#[should_panic(
    expected = "ingress `wiring/lines` refused the record: router `words`: a word that fails"
)]
fn a_refused_record_fails_the_test() {
    app().ingest("wiring/lines", Record::new(line(&["fail"])));
}

#[test]
#[should_panic(
    expected = "no ingress `wiring/other` in this harness: no router declares it; name its functions with \
                `.targets(\"wiring/other\", …)`, or its routers with `.routers(\"wiring/other\", …)` \
                (there are wiring/lines)"
)]
fn an_ingress_that_is_not_there_fails_the_test() {
    app().ingest("wiring/other", Record::new(line(&[])));
}

#[test]
fn a_router_that_is_not_linked_is_an_error() {
    let error = Harness::builder()
        .router("nowhere")
        .build()
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("no router `nowhere` is linked into this test (there are books, "),
        "{error}"
    );
}

#[test]
fn what_cannot_be_read_goes_as_the_ingress_says() {
    let builder = || {
        Harness::builder()
            .function::<Word>()
            .function::<Lines>()
            .router("words")
    };
    let mut app = builder().build().unwrap();
    let bad = app.record("wiring/Line", "{\"words\": 7}");
    let error = app.try_ingest("wiring/lines", bad).unwrap_err().to_string();
    assert!(
        error.contains("wiring/Line: invalid type: integer `7`"),
        "{error}"
    );

    let mut app = builder()
        .on_error("wiring/lines", OnError::Skip)
        .build()
        .unwrap();
    let bad = app.record("wiring/Line", "junk");
    app.ingest("wiring/lines", bad);
    app.ingest(
        "wiring/lines",
        app.record("wiring/Line", "{\"words\":[\"a\"]}"),
    );
    assert_eq!(app.run_until_idle().egress(DECLARED).len(), 1);

    let letters = OnError::DeadLetter("wiring/dead-letters".to_owned());
    let mut app = builder().on_error("wiring/lines", letters).build().unwrap();
    let bad = app.record("wiring/Line", "junk");
    app.ingest("wiring/lines", bad).run_until_idle();
    assert_eq!(app.egress_bytes("wiring/dead-letters"), ["junk"]);
}

#[test]
fn writing_to_an_egress_that_is_not_declared_fails_the_invocation() {
    // The egress exists, since another function declares it.
    let mut app = app();
    app.send(Word::at("x"), "leak".to_owned()).run_until_idle();
    let parked = app.parked();
    assert_eq!((parked.len(), parked[0].kind), (1, WaitKind::Parked));
    let problem = &parked[0].problem;
    assert!(
        problem.contains(
            "`wiring/word` writes to the egress `wiring/secret`, which is not under its `egress(…)`"
        ),
        "{problem}"
    );
    assert_eq!(app.egress(SECRET), [""; 0]);
    assert_eq!(
        app.egress(DECLARED),
        [""; 0],
        "nothing of the invocation remains"
    );
    assert_eq!(
        app.state(Word::at("x"), |word| word.count.get().copied()),
        None
    );
}

#[test]
fn writing_to_an_egress_that_does_not_exist_fails_the_invocation() {
    let mut app = Harness::builder().function::<Word>().build().unwrap();
    app.send(Word::at("x"), "leak".to_owned()).run_until_idle();
    let problem = &app.parked()[0].problem;
    assert!(
        problem.contains("no egress `wiring/secret` in this application"),
        "{problem}"
    );
}
