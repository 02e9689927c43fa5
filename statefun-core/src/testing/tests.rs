//! Messages that their formats cannot hold: they become dead letters, and stop nothing else.

mod expiry;
mod kept;
mod requests;
mod sizes;
mod state_sizes;
mod states;

use std::collections::BTreeMap;

use crate::engine::envelope::Envelope;
use crate::prelude::*;
use crate::testing::Harness;

/// JSON has no maps whose keys are no strings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "testing/Grid")]
struct Grid(BTreeMap<(u8, u8), bool>);

type Placed = AsyncResult<Grid, i64>;

#[stateful_function(
    typename = "testing/board",
    accepts(Grid, i64, String, Placed),
    retry(max_attempts = 2, initial_delay = "1s")
)]
struct Board {
    #[persisted]
    seen: PersistedBuffer<i64>,
}

impl Handle<Grid> for Board {
    fn handle(&mut self, _: Grid, _: &mut Context<'_, Self>) -> HandlerResult {
        Err(HandlerError::new("never"))
    }
}

impl Handle<i64> for Board {
    fn handle(&mut self, number: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        if number < 0 {
            return Err(HandlerError::permanent("negative"));
        }
        self.seen.append(number);
        Ok(())
    }
}

impl Handle<String> for Board {
    fn handle(&mut self, how: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.seen.append(0);
        if how == "later" {
            ctx.send_after(Duration::from_secs(1), Board::at("x"), grid())
                .with_token("t");
        } else {
            ctx.spawn(grid(), async { Ok::<i64, HandlerError>(1) });
        }
        Ok(())
    }
}

impl Handle<Placed> for Board {
    fn handle(&mut self, _: Placed, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

fn grid() -> Grid {
    Grid([((1, 2), true)].into())
}

fn app() -> Harness {
    let mut app = Harness::builder().function::<Board>().build().unwrap();
    app.settings.check_messages = false;
    app
}

fn seen(app: &mut Harness) -> Vec<i64> {
    app.state(Board::at("x"), |board| board.seen.view())
        .unwrap()
}

/// One dead letter, and the others handled, also after a restart.
fn check(mut app: Harness, others: &[i64]) {
    app.restart().run_until_idle().restart();
    let failures: Vec<String> = app.failures().iter().map(ToString::to_string).collect();
    let lost =
        "testing/Grid at testing/board/x: it cannot be written: testing/Grid: key must be a string";
    assert_eq!(
        failures.iter().filter(|failure| *failure == lost).count(),
        1,
        "{failures:?}"
    );
    assert_eq!(seen(&mut app), others);
}

#[test]
fn in_the_mailbox_at_a_cut() {
    let mut app = app();
    app.send(Board::at("x"), 1)
        .send(Board::at("x"), grid())
        .send(Board::at("x"), 2);
    app.commit().unwrap();
    check(app, &[1, 2]);
}

#[test]
fn in_the_queue_of_an_address_that_is_loaded() {
    let mut app = app();
    app.send(Board::at("x"), 1).run_until_idle().restart();
    app.send(Board::at("x"), 2)
        .send(Board::at("x"), grid())
        .send(Board::at("x"), 3);
    app.worker.run(usize::MAX).unwrap();
    assert!(
        !app.worker.effects.reads.is_empty(),
        "it waits for its state"
    );
    app.worker.cut().unwrap();
    // So that there is something to end a further epoch with.
    app.send(Board::at("y"), 1);
    check(app, &[1, 2, 3]);
}

#[test]
fn in_flight_at_a_cut() {
    let mut app = app();
    app.worker.cut().unwrap();
    let message = |body: Box<dyn crate::sdk::message::AnyMessage>| Envelope {
        to: Board::at("x").into_address(),
        from: None,
        body,
    };
    let messages = vec![
        message(Box::new(1i64)),
        message(Box::new(grid())),
        message(Box::new(2i64)),
    ];
    app.worker
        .receive(app.worker.epoch() - 1, messages)
        .unwrap();
    check(app, &[1, 2]);
}

#[test]
fn that_fails_and_would_wait_for_its_next_attempt() {
    let mut app = app();
    app.send(Board::at("x"), 1)
        .send(Board::at("x"), grid())
        .send(Board::at("x"), 2)
        .run_until_idle();
    assert!(app.waiting().is_empty());
    check(app, &[1, 2]);
}

#[test]
fn for_an_address_that_is_parked() {
    let mut app = app();
    for number in [1, -1] {
        app.send(Board::at("x"), number);
    }
    app.send(Board::at("x"), grid())
        .send(Board::at("x"), 2)
        .run_until_idle();
    assert_eq!(app.parked()[0].queued, 2);
    app.skip(Board::at("x")).run_until_idle();
    check(app, &[1, 2]);
}

#[test]
fn as_what_an_invocation_asks_for_later_it_fails_the_invocation() {
    for how in ["later", "spawn"] {
        let mut app = app();
        app.send(Board::at("x"), how.to_owned())
            .send(Board::at("y"), 1)
            .run_until_idle();
        let parked = app.parked();
        assert_eq!((parked.len(), parked[0].id.as_str()), (1, "x"), "{how}");
        assert!(
            parked[0].problem.contains("key must be a string"),
            "{parked:?}"
        );
        assert_eq!(seen(&mut app), [0; 0], "nothing of it remains");
    }
}
