//! Handlers that fail: retries, parking, and what an operator can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use statefun_core::prelude::*;
use statefun_core::testing::{DeliveryOutcome, Harness, WaitKind};

/// Fails while it is told to, and on negative numbers always.
#[stateful_function(
    typename = "failures/fragile",
    accepts(i64),
    egress(DONE),
    retry(max_attempts = 3, initial_delay = "1s", max_delay = "1m"),
    max_queue = 30
)]
struct Fragile {
    broken: Arc<AtomicBool>,
    #[persisted]
    total: PersistedValue<i64>,
}

const DONE: EgressId<i64> = EgressId::new("failures/done");

impl Handle<i64> for Fragile {
    fn handle(&mut self, number: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.total += number;
        ctx.egress(DONE, &number);
        if number == -2 {
            return Err(HandlerError::permanent("negative, and for good"));
        }
        if number < 0 || self.broken.load(Ordering::Relaxed) {
            return Err(HandlerError::new("broken"));
        }
        Ok(())
    }
}

fn app() -> (Harness, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let own = broken.clone();
    let make = move || Fragile {
        broken: own.clone(),
        total: PersistedValue::default(),
    };
    (Harness::builder().factory(make).build().unwrap(), broken)
}

fn total(app: &mut Harness, id: &str) -> i64 {
    app.state(Fragile::at(id), |fragile| *fragile.total)
}

#[test]
fn a_failure_is_tried_again_later_and_holds_up_its_own_address_only() {
    let (mut app, broken) = app();
    broken.store(true, Ordering::Relaxed);
    app.send(Fragile::at("x"), 1).run_until_idle();
    broken.store(false, Ordering::Relaxed);
    app.send(Fragile::at("x"), 2)
        .send(Fragile::at("y"), 3)
        .run_until_idle();
    assert_eq!(app.egress(DONE), [3], "x waits, y does not");
    let waiting = app.waiting();
    assert_eq!(
        (
            waiting.len(),
            waiting[0].kind,
            waiting[0].queued,
            waiting[0].attempts
        ),
        (1, WaitKind::Retrying, 2, 1)
    );
    assert!(app.parked().is_empty());
    app.advance(Duration::from_millis(999));
    assert_eq!(app.egress(DONE), [3]);
    app.advance(Duration::from_millis(1));
    assert_eq!(app.egress(DONE), [3, 1, 2], "in the order sent");
    assert!(app.waiting().is_empty());
    assert_eq!(total(&mut app, "x"), 3);
}

#[test]
fn attempts_come_at_growing_distances_until_the_address_is_parked() {
    for restarts in [false, true] {
        let (mut app, _) = app();
        app.send(Fragile::at("x"), -1).send(Fragile::at("x"), 5);
        for (wait_ms, attempts) in [(0, 1), (1_000, 2), (1_999, 2), (1, 3)] {
            app.advance(Duration::from_millis(wait_ms));
            if restarts {
                app.restart();
            }
            assert_eq!(app.failures().len(), attempts);
        }
        app.advance(Duration::from_hours(1));
        assert_eq!(app.failures().len(), 3, "no attempt after it is parked");
        let parked = app.parked();
        assert_eq!(
            (parked[0].id.as_str(), parked[0].queued, parked[0].attempts),
            ("x", 2, 3)
        );
        assert!(
            parked[0]
                .problem
                .starts_with("broken (handling `io.statefun.types/long`, attempt 3)"),
            "{parked:?}"
        );
        assert_eq!(
            total(&mut app, "x"),
            0,
            "its state can be looked at all the same"
        );
        app.skip(Fragile::at("x")).run_until_idle();
        assert_eq!((total(&mut app, "x"), app.egress(DONE)), (5, vec![5]));
        assert!(app.parked().is_empty());
    }
}

#[test]
fn a_permanent_failure_parks_at_once() {
    let (mut app, _) = app();
    app.send(Fragile::at("x"), -2).run_until_idle();
    assert_eq!(app.parked().len(), 1);
    let failed = &app.deliveries()[0];
    let outcome = DeliveryOutcome::Failed {
        problem: "negative, and for good".to_owned(),
        permanent: true,
    };
    assert_eq!(failed.outcome, outcome);
    assert_eq!(failed.message.get::<i64>(), Some(-2));
}

#[test]
fn a_retry_by_hand_has_all_attempts_again() {
    for restarts in [false, true] {
        let (mut app, broken) = app();
        broken.store(true, Ordering::Relaxed);
        app.send(Fragile::at("x"), 1)
            .advance(Duration::from_secs(10));
        assert_eq!(app.parked().len(), 1);
        if restarts {
            app.restart();
        }
        app.retry(Fragile::at("x")).advance(Duration::from_secs(2));
        assert_eq!(
            (app.failures().len(), app.parked().len()),
            (5, 0),
            "two more attempts, and one to go"
        );
        broken.store(false, Ordering::Relaxed);
        app.advance(Duration::from_secs(10));
        assert_eq!(app.egress(DONE), [1]);
    }
}

#[test]
fn attempts_count_for_one_message() {
    let (mut app, broken) = app();
    broken.store(true, Ordering::Relaxed);
    app.send(Fragile::at("x"), 1)
        .advance(Duration::from_secs(2));
    app.send(Fragile::at("x"), -1);
    broken.store(false, Ordering::Relaxed);
    app.advance(Duration::from_secs(1));
    assert_eq!(app.egress(DONE), [1]);
    // The next message has failed once, not three times; also after a restart right then.
    assert_eq!(app.waiting()[0].attempts, 1);
    app.restart();
    assert_eq!(app.waiting()[0].attempts, 1);
}

#[test]
fn attempts_of_a_message_that_succeeded_do_not_count_for_another_after_a_restart() {
    let broken = Arc::new(AtomicBool::new(true));
    let own = broken.clone();
    let make = move || Fragile {
        broken: own.clone(),
        total: PersistedValue::default(),
    };
    let mut app = Harness::builder()
        .factory(make)
        .message_limit(2)
        .build()
        .unwrap();
    app.send(Fragile::at("x"), 1)
        .advance(Duration::from_secs(1));
    assert_eq!(app.waiting()[0].attempts, 2);
    broken.store(false, Ordering::Relaxed);
    for number in 2..25 {
        app.send(Fragile::at("x"), number);
    }
    app.run(usize::MAX);
    // The process ends after the first have succeeded, before the last was tried.
    assert!(
        app.try_advance(Duration::from_secs(2)).is_err(),
        "the limit interrupts it"
    );
    app.restart();
    broken.store(true, Ordering::Relaxed);
    app.run(usize::MAX);
    assert_eq!(app.waiting()[0].attempts, 1);
}

#[test]
fn a_whole_queue_can_be_dropped() {
    let (mut app, _) = app();
    for number in [-2, 1, 2] {
        app.send(Fragile::at("x"), number);
    }
    app.run_until_idle();
    let values: Vec<String> = app
        .queued(Fragile::at("x"))
        .into_iter()
        .map(|message| message.typename)
        .collect();
    assert_eq!(values, ["io.statefun.types/long"; 3]);
    app.drop_queue(Fragile::at("x"))
        .send(Fragile::at("x"), 4)
        .run_until_idle();
    assert_eq!((app.egress(DONE), app.parked().len()), (vec![4], 0));
}

#[test]
fn skipping_keeps_the_order_of_the_rest_and_parks_again_at_the_next_failure() {
    let (mut app, _) = app();
    for number in [-2, 1, -2, 2] {
        app.send(Fragile::at("x"), number);
    }
    app.run_until_idle().restart();
    app.skip(Fragile::at("x")).run_until_idle();
    assert_eq!((app.egress(DONE), app.parked()[0].queued), (vec![1], 2));
    app.restart().skip(Fragile::at("x")).run_until_idle();
    assert_eq!((app.egress(DONE), app.parked().len()), (vec![1, 2], 0));
}

#[test]
fn beyond_its_limit_a_queue_takes_no_more_and_says_so() {
    let (mut app, _) = app();
    app.send(Fragile::at("x"), -2);
    for number in 1..33 {
        app.send(Fragile::at("x"), number);
    }
    app.run_until_idle();
    let lost = app
        .failures()
        .iter()
        .filter(|failure| matches!(failure.outcome, DeliveryOutcome::Undeliverable { .. }))
        .count();
    assert_eq!(lost, 3, "29 wait behind the failed one");
    app.skip(Fragile::at("x")).run_until_idle();
    assert_eq!(app.egress(DONE), (1..30).collect::<Vec<i64>>());
}

#[test]
#[should_panic(
    expected = "nothing waits at failures/fragile/y; messages wait at failures/fragile/x"
)]
fn an_order_for_an_address_that_does_not_wait_fails_the_test() {
    let (mut app, _) = app();
    app.send(Fragile::at("x"), -2).run_until_idle();
    app.retry(Fragile::at("y"));
}

#[test]
#[should_panic(
    expected = "handlers failed:\n  io.statefun.types/long at failures/fragile/x: negative, and for good"
)]
fn failures_can_fail_the_test() {
    let (mut app, _) = app();
    app.send(Fragile::at("x"), -2)
        .run_until_idle()
        .assert_no_failures();
}
