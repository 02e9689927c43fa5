//! `max_state_bytes`: all values of an instance count, those too that did not change last; entries and elements do not.

use crate::prelude::*;
use crate::testing::{Harness, WaitKind};

#[stateful_function(typename = "sizes/hoard", accepts(i64), max_state_bytes = 300)]
struct Hoard {
    #[persisted]
    first: PersistedValue<String>,
    #[persisted]
    second: PersistedValue<String>,
    #[persisted(expire_after_write = "1h")]
    brief: PersistedValue<String>,
    #[persisted]
    registry: PersistedRegistry,
    #[persisted]
    table: PersistedTable<i64, String>,
    #[persisted]
    buffer: PersistedBuffer<String>,
}

const FIRST: i64 = 1;
const SECOND: i64 = 2;
const BRIEF: i64 = 3;
const REGISTERED: i64 = 4;
const TABLE: i64 = 5;
const BUFFER: i64 = 6;
/// Changes nothing.
const NOTHING: i64 = 7;

/// With the header of its row and the length of the text, 134 bytes.
fn text() -> String {
    "x".repeat(120)
}

impl Handle<i64> for Hoard {
    fn handle(&mut self, what: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        match what {
            FIRST => self.first.set(text()),
            SECOND => self.second.set(text()),
            BRIEF => self.brief.set(text()),
            REGISTERED => self.registry.value::<String>("any")?.set(text()),
            TABLE => (0..100).for_each(|key| self.table.set(key, text())),
            BUFFER => self.buffer.append_all(vec![text(); 100]),
            _ => {}
        }
        Ok(())
    }
}

fn app(cache_bytes: usize) -> Harness {
    let app = Harness::builder().function::<Hoard>();
    app.cache_bytes(cache_bytes).build().unwrap()
}

/// Each in an epoch of its own.
fn send(app: &mut Harness, messages: &[i64]) {
    for what in messages {
        app.send(Hoard::at("x"), *what).run_until_idle();
    }
}

fn problem(app: &mut Harness) -> Option<String> {
    let parked = app.parked();
    assert!(
        parked
            .iter()
            .all(|waiting| waiting.kind == WaitKind::Parked)
    );
    parked.first().map(|waiting| waiting.problem.clone())
}

#[test]
fn all_values_of_an_instance_count() {
    for third in [BRIEF, REGISTERED] {
        for (cache_bytes, restarts) in [(1 << 20, false), (0, false), (1 << 20, true)] {
            if third == REGISTERED && cache_bytes == 0 {
                // What a registry holds is read when it is asked for, and here it leaves memory again at once.
                continue;
            }
            let mut app = app(cache_bytes);
            send(&mut app, &[FIRST, SECOND, FIRST, NOTHING]);
            app.assert_no_failures();
            // It takes effect, since nobody knows its size yet.
            send(&mut app, &[third]);
            app.assert_no_failures();
            if restarts {
                app.restart();
            }
            if third == REGISTERED && restarts {
                send(&mut app, &[REGISTERED]);
                app.assert_no_failures();
            }
            send(&mut app, &[NOTHING]);
            let problem = problem(&mut app).unwrap_or_default();
            assert!(
                problem.contains("its state has 402 bytes, and the limit of `sizes/hoard` is 300"),
                "{third} {cache_bytes} {restarts}: {problem}"
            );
        }
    }
}

#[test]
fn entries_and_elements_do_not() {
    for cache_bytes in [1 << 20, 0] {
        let mut app = app(cache_bytes);
        send(
            &mut app,
            &[FIRST, SECOND, TABLE, BUFFER, TABLE, BUFFER, NOTHING],
        );
        app.assert_no_failures();
    }
}

#[test]
fn what_has_expired_does_not() {
    let mut app = app(1 << 20);
    send(&mut app, &[FIRST, BRIEF, SECOND]);
    app.advance(Duration::from_hours(1));
    send(&mut app, &[NOTHING, SECOND, NOTHING]);
    app.assert_no_failures();
}
