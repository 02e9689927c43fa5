//! Restarts in the middle of everything.

use statefun_core::io::ingress::Record;
use statefun_core::prelude::*;
use statefun_core::testing::Harness;

/// Counts down by sending to itself and to a neighbour.
#[stateful_function(typename = "restart/counter", accepts(i64), egress(COUNTS))]
struct Counter {
    #[persisted]
    total: PersistedValue<i64>,
    #[persisted]
    history: PersistedBuffer<i64>,
    #[persisted]
    by_number: PersistedTable<i64, u32>,
}

const COUNTS: EgressId<i64> = EgressId::new("restart/counts");

impl Handle<i64> for Counter {
    fn handle(&mut self, number: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.total += number;
        self.history.append(number);
        self.by_number.update(number, |times| *times += 1)?;
        ctx.egress(COUNTS, &number);
        if number > 0 {
            ctx.send(Counter::at(ctx.id()), number - 1);
            ctx.send(Counter::at("sum"), 0);
            ctx.send_after(Duration::from_secs(1), Counter::at("later"), 0);
        }
        if number == 3 {
            // Only the client takes it.
            let _ = ctx.reply("three".to_owned());
        }
        Ok(())
    }
}

fn app(cache_bytes: usize) -> Harness {
    let app = Harness::builder()
        .function::<Counter>()
        .cache_bytes(cache_bytes);
    app.targets("restart/numbers", [Counter::type_name()])
        .build()
        .unwrap()
}

/// Total, history, and how often each number was seen.
type State = (i64, Vec<i64>, Vec<(i64, u32)>);

#[derive(Debug, PartialEq)]
struct Seen {
    egress: Vec<i64>,
    states: Vec<State>,
    reply: Option<String>,
    handled: usize,
}

/// The same work, with a restart after each `every` messages.
fn run(cache_bytes: usize, every: usize) -> Seen {
    let mut app = app(cache_bytes);
    app.ingest("restart/numbers", Record::new(5i64).with_key("a"));
    app.send(Counter::at("b"), 7);
    let request = app.request(Counter::at("c"), 3);
    for _ in 0..50 {
        app.run(every);
        if every < usize::MAX {
            app.restart();
        }
    }
    app.advance(Duration::from_millis(500));
    if every < usize::MAX {
        app.restart();
    }
    app.advance(Duration::from_millis(500)).assert_no_failures();
    let states = ["a", "b", "c", "sum", "later"].map(|id| {
        app.state(Counter::at(id), |counter| {
            (
                *counter.total,
                counter.history.view().unwrap(),
                counter.by_number.entries().unwrap(),
            )
        })
    });
    let mut egress = app.egress(COUNTS);
    egress.sort_unstable();
    Seen {
        egress,
        states: states.to_vec(),
        reply: app.reply(&request),
        handled: app.deliveries().len(),
    }
}

#[test]
fn nothing_is_lost_or_doubled_wherever_it_is_interrupted() {
    let undisturbed = run(1 << 20, usize::MAX);
    assert_eq!(undisturbed.states[1].1, [7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(undisturbed.reply.as_deref(), Some("three"));
    for every in 1..9 {
        for cache_bytes in [0, 1 << 20] {
            assert_eq!(
                run(cache_bytes, every),
                undisturbed,
                "a restart after each {every} messages"
            );
        }
    }
}

#[test]
fn a_restart_without_work_changes_nothing() {
    let mut app = app(1 << 20);
    app.restart()
        .restart()
        .send(Counter::at("a"), 1)
        .restart()
        .restart();
    app.run_until_idle().assert_no_failures();
    assert_eq!(app.egress(COUNTS), [1, 0, 0]);
    assert_eq!(app.restart().egress(COUNTS).len(), 3);
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Stubborn(i64);

/// A value that its own reader refuses: the mistake that a restart is there to find.
impl serde::Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("not a number")
    }
}
impl<'de> serde::Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Stubborn)
    }
}

#[stateful_function(typename = "restart/stubborn", accepts(i64))]
struct Keeper {
    #[persisted]
    stubborn: PersistedValue<Stubborn>,
}
impl Handle<i64> for Keeper {
    fn handle(&mut self, number: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        self.stubborn.set(Stubborn(number));
        Ok(())
    }
}

#[test]
#[should_panic(
    expected = "the state of restart/stubborn/x cannot be read: the state `stubborn` of restart/stubborn/x cannot be read: \
                           wrong msgpack marker"
)]
fn a_state_that_cannot_be_read_back_fails_the_test() {
    let mut app = Harness::builder().function::<Keeper>().build().unwrap();
    app.send(Keeper::at("x"), 1)
        .run_until_idle()
        .assert_no_failures();
    assert_eq!(app.state(Keeper::at("x"), |keeper| keeper.stubborn.0), 1);
    app.restart();
    app.state(Keeper::at("x"), |keeper| keeper.stubborn.0);
}

#[test]
fn an_address_whose_state_cannot_be_read_is_parked_with_its_messages() {
    let mut app = Harness::builder().function::<Keeper>().build().unwrap();
    app.send(Keeper::at("x"), 1).run_until_idle().restart();
    app.send(Keeper::at("x"), 2)
        .send(Keeper::at("y"), 3)
        .run_until_idle();
    assert_eq!(app.state(Keeper::at("y"), |keeper| keeper.stubborn.0), 3);
    let parked = app.parked();
    assert_eq!(
        (parked.len(), parked[0].id.as_str(), parked[0].queued),
        (1, "x", 1)
    );
    app.restart();
    assert_eq!(app.queued(Keeper::at("x")).len(), 1);
}
