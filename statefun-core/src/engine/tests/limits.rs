//! What cannot be written, or is too large, on running workers: it stops nobody else, and no process.

use super::running::Running;
use crate::engine::start::EngineSettings;
use crate::prelude::*;
use crate::shape::{Shape, ShapeScope, Shaped};

/// Of negative numbers there is no form, and nobody can know that before.
#[derive(Debug, Clone, Default, Deserialize)]
struct Number(i64);

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 < 0 {
            return Err(serde::ser::Error::custom("it is negative"));
        }
        serializer.serialize_i64(self.0)
    }
}

impl Shaped for Number {
    fn shape_in(_: &mut ShapeScope) -> Shape {
        Shape::Int(64)
    }
}

const TOTALS: EgressId<i64> = EgressId::new("tests/totals");

#[stateful_function(
    typename = "tests/sum",
    accepts(i64, String),
    egress(TOTALS),
    max_message_bytes = 100
)]
struct Sum {
    #[persisted]
    total: PersistedValue<Number>,
}

impl Handle<i64> for Sum {
    fn handle(&mut self, by: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.total.0 += by;
        ctx.egress(TOTALS, &self.total.0);
        Ok(())
    }
}

impl Handle<String> for Sum {
    fn handle(&mut self, text: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let again = text.clone();
        ctx.send_after(Duration::ZERO, Sum::at(ctx.id()), again);
        self.total.0 += text.len() as i64;
        Ok(())
    }
}

fn start(directory: &std::path::Path) -> Running {
    let settings = EngineSettings {
        workers: 2,
        ..EngineSettings::default()
    };
    Running::start(directory, "tests/totals", settings, |binder| {
        binder.register::<Sum>();
    })
}

#[test]
fn a_state_that_cannot_be_written_parks_its_address_only() {
    let directory = tempfile::tempdir().unwrap();
    let mut app = start(directory.path());
    app.send(Sum::at("x"), 5);
    app.eventually("the first total", |app| app.left::<i64>() == [5]);
    app.send(Sum::at("x"), -7);
    app.eventually("it is parked", |app| !app.waiting().is_empty());
    let parked = app.waiting();
    assert!(
        parked[0]
            .problem
            .starts_with("the state `total` of tests/sum/x cannot be written: it is negative"),
        "{parked:?}"
    );
    for number in 0..100 {
        app.send(Sum::at(format!("other-{number}")), 1);
        app.send(Sum::at("x"), 1);
    }
    app.eventually("others go on, and x waits", |app| {
        app.left::<i64>().len() == 102 && app.waiting()[0].queued == 100
    });
    app.stop();

    // What was durable when it could be written last is what there is: 5, and not -2.
    let mut app = start(directory.path());
    assert_eq!(app.waiting()[0].queued, 100);
    app.retry(Sum::at("x").into_address());
    app.eventually("the queue is worked off", |app| {
        app.left::<i64>().last() == Some(&105)
    });
    assert!(app.waiting().is_empty());
    app.stop();
}

#[test]
fn what_is_too_large_is_a_dead_letter_once_it_would_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut app = start(directory.path());
    // The delayed message that it asks for is refused, so it fails; and then it is itself too large for its queue.
    app.send(Sum::at("x"), "x".repeat(200));
    app.send(Sum::at("x"), 1);
    app.eventually("nothing of it is in the state", |app| {
        app.left::<i64>() == [1]
    });
    assert!(app.waiting().is_empty());
    app.stop();
}
