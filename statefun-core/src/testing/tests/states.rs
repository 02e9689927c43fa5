//! Values of states that cannot be written: the invocation fails where that can be told, and else only its address stops.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serializer;

use crate::prelude::*;
use crate::shape::{Shape, ShapeScope, Shaped};
use crate::testing::{Harness, WaitKind};

// Tests run on threads of their own, and so does this.
thread_local! {
    static BROKEN: AtomicBool = const { AtomicBool::new(false) };
}

fn is_broken() -> bool {
    BROKEN.with(|broken| broken.load(Ordering::Relaxed))
}

fn set_broken(broken: bool) {
    BROKEN.with(|flag| flag.store(broken, Ordering::Relaxed));
}

fn odd<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        -1 => Err(serde::ser::Error::custom("minus one has no form")),
        -2 => panic!("minus two"),
        _ => serializer.serialize_i64(*number),
    }
}

/// Its serializer is one that nobody can look into.
#[persisted]
#[derive(Debug)]
struct Checked(#[serde(serialize_with = "odd")] i64);

/// It says that it is a plain number, and fails all the same.
#[derive(Debug, Clone, Default, Deserialize)]
struct Hidden(i64);

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if is_broken() {
            odd(&self.0, serializer)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl Shaped for Hidden {
    fn shape_in(_: &mut ShapeScope) -> Shape {
        Shape::Int(64)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "states/Put")]
struct Put {
    state: String,
    number: i64,
}

#[stateful_function(typename = "states/keeper", accepts(Put), egress(DONE))]
struct Keeper {
    #[persisted]
    value: PersistedValue<Checked>,
    #[persisted]
    table: PersistedTable<i64, Checked>,
    #[persisted]
    buffer: PersistedBuffer<Checked>,
    #[persisted]
    registry: PersistedRegistry,
    #[persisted]
    hidden: PersistedValue<Hidden>,
    #[persisted]
    hidden_table: PersistedTable<i64, Hidden>,
    #[persisted]
    hidden_buffer: PersistedBuffer<Hidden>,
    #[persisted]
    plain: PersistedValue<i64>,
}

const DONE: EgressId<i64> = EgressId::new("states/done");

impl Handle<Put> for Keeper {
    fn handle(&mut self, put: Put, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.plain += 1;
        ctx.egress(DONE, &put.number);
        let (checked, hidden) = (Checked(put.number), Hidden(put.number));
        match put.state.as_str() {
            "value" => self.value.set(checked),
            "table" => self.table.set(put.number, checked),
            "buffer" => self.buffer.append(checked),
            "registry" => {
                let table = self
                    .registry
                    .state::<PersistedTable<i64, Checked>>("t", Expiration::None)?;
                table.set(put.number, checked);
            }
            "hidden" => self.hidden.set(hidden),
            "hidden_table" => self.hidden_table.set(put.number, hidden),
            _ => self.hidden_buffer.append(hidden),
        }
        Ok(())
    }
}

fn put(state: &str, number: i64) -> Put {
    Put {
        state: state.to_owned(),
        number,
    }
}

fn app() -> Harness {
    Harness::builder().function::<Keeper>().build().unwrap()
}

/// The number of invocations that the state knows, and all numbers in it.
fn state(app: &mut Harness, id: &str) -> (i64, Vec<i64>) {
    app.state(Keeper::at(id), |keeper| {
        let mut numbers = Vec::new();
        numbers.extend(keeper.value.get().map(|value| value.0));
        numbers.extend(keeper.table.values().unwrap().iter().map(|value| value.0));
        numbers.extend(keeper.buffer.view().unwrap().iter().map(|value| value.0));
        numbers.extend(keeper.hidden.get().map(|value| value.0));
        numbers.extend(
            keeper
                .hidden_table
                .values()
                .unwrap()
                .iter()
                .map(|value| value.0),
        );
        numbers.extend(
            keeper
                .hidden_buffer
                .view()
                .unwrap()
                .iter()
                .map(|value| value.0),
        );
        (*keeper.plain, numbers)
    })
}

#[test]
fn what_may_not_be_writable_is_checked_by_the_invocation_which_fails() {
    for kind in ["value", "table", "buffer", "registry"] {
        for (number, problem) in [
            (-1, "minus one has no form"),
            (-2, "its serializer panicked: minus two"),
        ] {
            let mut app = app();
            app.send(Keeper::at("x"), put(kind, 7)).run_until_idle();
            app.send(Keeper::at("x"), put(kind, number))
                .send(Keeper::at("x"), put(kind, 8))
                .send(Keeper::at("y"), put(kind, 9))
                .run_until_idle();
            let parked = app.parked();
            assert_eq!((parked.len(), parked[0].queued), (1, 2), "{kind}");
            let named = format!("the state `{kind}` of states/keeper/x cannot be written: ");
            assert!(
                parked[0].problem.starts_with(&named) && parked[0].problem.contains(problem),
                "{parked:?}"
            );
            assert_eq!(
                app.egress(DONE),
                [7, 9],
                "nothing of the invocation remains"
            );
            app.restart().skip(Keeper::at("x")).run_until_idle();
            assert_eq!(state(&mut app, "x").0, 2);
            assert_eq!(app.egress(DONE), [7, 9, 8]);
        }
    }
}

#[test]
fn what_only_the_cut_finds_parks_its_address_and_stops_nobody_else() {
    for kind in ["hidden", "hidden_table", "hidden_buffer"] {
        for number in [-1, -2] {
            set_broken(true);
            let mut app = app();
            app.send(Keeper::at("x"), put(kind, 7)).run_until_idle();
            app.send(Keeper::at("x"), put(kind, number))
                .run_until_idle();
            let parked = app.parked();
            assert_eq!(
                (parked.len(), parked[0].id.as_str(), parked[0].queued),
                (1, "x", 0),
                "{kind}"
            );
            let named = format!("the state `{kind}` of states/keeper/x cannot be written: ");
            assert!(parked[0].problem.starts_with(&named), "{parked:?}");
            // Others go on, and what comes for it waits, through further epochs.
            for round in 0..3 {
                app.send(Keeper::at("y"), put(kind, round))
                    .send(Keeper::at("x"), put(kind, 100 + round))
                    .run_until_idle();
            }
            assert_eq!(state(&mut app, "y").0, 3);
            assert_eq!(app.parked()[0].queued, 3);

            // Its old row is what a restart finds.
            app.restart();
            assert!(state(&mut app, "x").1.contains(&7));
            assert!(!state(&mut app, "x").1.contains(&number));
            app.retry(Keeper::at("x")).run_until_idle();
            assert!(app.parked().is_empty());
            let (_, numbers) = state(&mut app, "x");
            assert!(
                numbers.contains(&102) && !numbers.contains(&number),
                "{numbers:?}"
            );
            set_broken(false);
        }
    }
}

#[test]
fn a_value_that_can_be_written_after_all_is() {
    for kind in ["hidden", "hidden_table", "hidden_buffer"] {
        set_broken(true);
        let mut app = app();
        for number in [-1, 5] {
            app.send(Keeper::at("x"), put(kind, number))
                .run_until_idle();
        }
        app.retry(Keeper::at("x")).run_until_idle();
        if kind == "hidden" {
            assert!(app.parked().is_empty(), "the next message has replaced it");
            continue;
        }
        assert_eq!(app.parked().len(), 1, "it is found again: {kind}");
        set_broken(false);
        app.retry(Keeper::at("x")).run_until_idle();
        assert!(app.parked().is_empty());
        app.restart();
        assert_eq!(
            state(&mut app, "x"),
            (2, vec![-1, 5]),
            "{kind}: in order, and nothing lost"
        );
    }
}

#[test]
fn it_does_not_matter_what_else_the_address_waits_for() {
    set_broken(true);
    let mut app = app();
    app.send(Keeper::at("x"), put("hidden", -1));
    app.send(Keeper::at("x"), put("value", -1));
    app.send(Keeper::at("x"), put("table", 1)).run_until_idle();
    let waiting = app.waiting();
    assert_eq!(
        (waiting.len(), waiting[0].kind, waiting[0].queued),
        (1, WaitKind::Parked, 2),
        "parked by its message, and then by its state: {waiting:?}"
    );
    assert!(waiting[0].problem.contains("`hidden`"));
    app.skip(Keeper::at("x")).run_until_idle();
    assert_eq!(app.egress(DONE), [-1, 1]);
}

#[test]
fn parked_addresses_leave_memory_and_come_back() {
    let mut app = Harness::builder()
        .function::<Keeper>()
        .cache_bytes(0)
        .build()
        .unwrap();
    let id = |number: i64| Keeper::at(number.to_string());
    for number in 0..50 {
        app.send(id(number), put("value", 7))
            .send(id(number), put("value", -1));
    }
    app.run_until_idle();
    // Their rows are applied now; the next epoch needs room.
    app.send(id(99), put("value", 1)).run_until_idle();
    app.send(id(99), put("value", 2)).run_until_idle();
    assert_eq!((app.parked().len(), app.worker.held()), (50, 0));
    for number in 0..50 {
        app.send(id(number), put("value", 8));
    }
    app.run_until_idle();
    assert!(app.parked().iter().all(|parked| parked.queued == 2));
    app.send(id(99), put("value", 3)).run_until_idle();
    app.send(id(99), put("value", 4)).run_until_idle();
    assert_eq!(app.worker.held(), 0);
    for number in 0..50 {
        app.skip(id(number));
    }
    app.run_until_idle();
    assert!(app.parked().is_empty());
    for number in 0..50 {
        assert_eq!(state(&mut app, &number.to_string()), (2, vec![8]));
    }
}
