//! A failed invocation leaves nothing: state of every kind, sends, egress records, timers, operations, plain fields.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use statefun_core::prelude::*;
use statefun_core::testing::Harness;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "undo/Change")]
struct Change {
    number: u32,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum End {
    Well,
    Error,
    Permanent,
    Panic,
    /// Fails by what it does, without an error of its own.
    TooManySends,
}

const LOG: EgressId<i64> = EgressId::new("undo/log");

#[stateful_function(
    typename = "undo/everything",
    accepts(Change, i64, AsyncResult<i64, i64>),
    sends(Witness),
    egress(LOG),
    retry(max_attempts = 3, initial_delay = "10s"),
    max_fan_out = 20,
)]
struct Everything {
    plain: u32,
    started: Arc<AtomicU32>,
    #[persisted]
    value: PersistedValue<Vec<u32>>,
    #[persisted]
    other: PersistedValue<String>,
    #[persisted]
    table: PersistedTable<String, u32>,
    #[persisted]
    buffer: PersistedBuffer<u32>,
    #[persisted]
    registry: PersistedRegistry,
}

#[stateful_function(typename = "undo/witness", accepts(i64))]
struct Witness {}

impl Handle<i64> for Witness {
    fn handle(&mut self, _: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

impl Handle<i64> for Everything {
    fn handle(&mut self, _: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

impl Handle<AsyncResult<i64, i64>> for Everything {
    fn handle(&mut self, _: AsyncResult<i64, i64>, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

impl Handle<Change> for Everything {
    fn handle(
        &mut self,
        Change { number, end }: Change,
        ctx: &mut Context<'_, Self>,
    ) -> HandlerResult {
        let name = format!("{number}");
        self.plain += 1;
        // Each kind in several ways, so that undoing only the last or the first of them shows.
        self.value.push(number);
        match number % 3 {
            0 => self.other.set(name.clone()),
            1 => self.other.clear(),
            _ => self.other.push_str(&name),
        }
        self.table.set(name.clone(), number);
        self.table.update("sum".to_owned(), |sum| *sum += number)?;
        self.table.set("gone".to_owned(), number);
        self.table.remove(&"gone".to_owned());
        if number % 4 == 3 {
            self.table.remove(&format!("{}", number - 1));
            self.buffer.clear();
        }
        self.buffer.append_all([number, number * 10]);
        if number % 5 == 4 {
            self.buffer.replace_with([number]);
        }
        **self.registry.value::<u32>("total")? += number;
        self.registry.value::<u32>(&name)?.set(number);
        let marks = Expiration::None;
        self.registry
            .state::<PersistedTable<String, u32>>("marks", marks)?
            .set(name.clone(), number);
        let steps = Expiration::None;
        self.registry
            .state::<PersistedBuffer<u32>>("steps", steps)?
            .append(number);
        let sends = if end == End::TooManySends { 30 } else { 2 };
        for _ in 0..sends {
            ctx.send(Witness::at("w"), i64::from(number));
        }
        ctx.egress(LOG, &i64::from(number));
        ctx.cancel("token");
        ctx.send_after(
            Duration::from_hours(1),
            Witness::at("later"),
            i64::from(number),
        )
        .with_token("token");
        let started = self.started.clone();
        ctx.spawn(i64::from(number), async move {
            started.fetch_add(1, Ordering::Relaxed);
            Ok::<i64, HandlerError>(1)
        });
        match end {
            End::Well | End::TooManySends => Ok(()),
            End::Error => Err(HandlerError::new("told to fail")),
            End::Permanent => Err(HandlerError::permanent("told to fail for good")),
            End::Panic => panic!("told to panic"),
        }
    }
}

/// All that a test can see of an instance.
#[derive(Debug, PartialEq)]
struct Seen {
    value: Vec<u32>,
    other: Option<String>,
    table: Vec<(String, u32)>,
    buffer: Vec<u32>,
    names: Vec<String>,
    total: Option<u32>,
    marks: Vec<(String, u32)>,
    steps: Vec<u32>,
}

fn seen(app: &mut Harness) -> Seen {
    app.state(
        Everything::at("x"),
        |all| -> Result<Seen, Box<dyn std::error::Error>> {
            Ok(Seen {
                value: all.value.clone(),
                other: all.other.get().cloned(),
                table: all.table.entries()?,
                buffer: all.buffer.view()?,
                names: all.registry.names()?,
                total: all.registry.value::<u32>("total")?.get().copied(),
                marks: all
                    .registry
                    .state::<PersistedTable<String, u32>>("marks", Expiration::None)?
                    .entries()?,
                steps: all
                    .registry
                    .state::<PersistedBuffer<u32>>("steps", Expiration::None)?
                    .view()?,
            })
        },
    )
    .unwrap()
}

fn app() -> (Harness, Arc<AtomicU32>) {
    let started = Arc::new(AtomicU32::new(0));
    let own = started.clone();
    let make = move || Everything {
        plain: 0,
        started: own.clone(),
        value: PersistedValue::default(),
        other: PersistedValue::default(),
        table: PersistedTable::default(),
        buffer: PersistedBuffer::default(),
        registry: PersistedRegistry::default(),
    };
    (
        Harness::builder()
            .factory(make)
            .function::<Witness>()
            .build()
            .unwrap(),
        started,
    )
}

/// Sends a change without ending the epoch; one that fails is skipped.
fn change(app: &mut Harness, number: u32, end: End) {
    let before = app.failures().len();
    app.send(Everything::at("x"), Change { number, end })
        .run(usize::MAX);
    assert_eq!(
        app.failures().len(),
        before + usize::from(end != End::Well),
        "{number} {end:?}"
    );
    if end != End::Well {
        app.skip(Everything::at("x")).run(usize::MAX);
    }
}

const FAILURES: [End; 4] = [End::Error, End::Permanent, End::Panic, End::TooManySends];

#[test]
fn nothing_of_a_failed_invocation_remains() {
    for first in 0..6 {
        for failure in FAILURES {
            // The plain field restarts at zero after a failure, so the failing ones come first or alone.
            let (mut app, started) = app();
            for number in first..first + 8 {
                change(&mut app, number, failure);
            }
            let nothing = seen(&mut app);
            assert_eq!(nothing.value, [0; 0]);
            assert_eq!((&nothing.other, nothing.total), (&None, None));
            assert_eq!(
                (
                    nothing.table.len(),
                    nothing.buffer.len(),
                    nothing.marks.len(),
                    nothing.steps.len()
                ),
                (0, 0, 0, 0)
            );
            app.run_until_idle();
            assert_eq!(
                seen(&mut app),
                nothing,
                "the end of the epoch changes nothing"
            );
            app.restart();
            assert_eq!(seen(&mut app), nothing, "nor does a restart");
            assert!(
                nothing
                    .names
                    .iter()
                    .all(|name| ["total", "marks", "steps"].contains(&name.as_str())),
                "{:?}",
                nothing.names
            );
            app.advance(Duration::from_hours(2));
            assert_eq!(app.sent_to::<i64>(Witness::at("w")), [0; 0]);
            assert_eq!(app.sent_to::<i64>(Witness::at("later")), [0; 0]);
            assert_eq!(app.egress(LOG), [0; 0]);
            assert_eq!(
                started.load(Ordering::Relaxed),
                0,
                "no operation was started"
            );
        }
    }
}

/// What the good changes alone lead to.
fn expected(good: &[u32]) -> (Seen, Vec<i64>) {
    let (mut app, _) = app();
    for number in good {
        change(&mut app, *number, End::Well);
    }
    app.run_until_idle();
    (seen(&mut app), app.egress(LOG))
}

#[test]
fn failures_between_good_changes_of_one_epoch_leave_nothing() {
    for failure in FAILURES {
        for number in 0..6 {
            let (mut app, started) = app();
            let (first, second) = (number * 2, number * 2 + 7);
            change(&mut app, first, End::Well);
            change(&mut app, number, failure);
            change(&mut app, number + 3, failure);
            let after_one = seen(&mut app);
            assert_eq!(after_one, expected(&[first]).0, "{number} {failure:?}");
            // Its plain field was reset by the failure: it starts again with the epoch's end and a restart.
            app.run_until_idle();
            assert_eq!(seen(&mut app), after_one);
            assert_eq!(started.load(Ordering::Relaxed), 1);
            assert_eq!(app.egress(LOG), [i64::from(first)]);
            app.restart();
            assert_eq!(seen(&mut app), after_one);
            app.advance(Duration::from_hours(2));
            assert_eq!(
                app.sent_to::<i64>(Witness::at("later")),
                [i64::from(first)],
                "cancelling was undone as well"
            );
            let _ = second;
        }
    }
}

#[test]
fn a_failure_after_an_epoch_undoes_to_what_the_epoch_wrote() {
    for failure in FAILURES {
        for number in 0..12 {
            let (mut app, _) = app();
            change(&mut app, 8, End::Well);
            change(&mut app, 9, End::Well);
            app.run_until_idle();
            let before = seen(&mut app);
            change(&mut app, number, failure);
            assert_eq!(seen(&mut app), before, "{number} {failure:?}");
            app.run_until_idle().restart();
            assert_eq!(seen(&mut app), before, "{number} {failure:?}");
        }
    }
}

#[test]
fn plain_fields_start_again_after_a_failure() {
    let (mut app, _) = app();
    change(&mut app, 1, End::Well);
    assert_eq!(app.state(Everything::at("x"), |all| all.plain), 1);
    change(&mut app, 2, End::Error);
    assert_eq!(app.state(Everything::at("x"), |all| all.plain), 0);
    change(&mut app, 2, End::Panic);
    assert_eq!(app.state(Everything::at("x"), |all| all.plain), 0);
}
