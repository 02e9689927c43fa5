//! The rows of what has expired are deleted, in memory or not, also of addresses that nobody touches again.

use crate::prelude::*;
use crate::sdk::state::state_id;
use crate::state::keys::{Space, parse_address_key};
use crate::state::{StateReader, StateStore};
use crate::testing::Harness;

#[stateful_function(typename = "expiry/shelf", accepts(i64))]
struct Shelf {
    #[persisted(expire_after_write = "1h")]
    value: PersistedValue<i64>,
    #[persisted(expire_after_write = "1h")]
    table: PersistedTable<i64, i64>,
    #[persisted(expire_after_write = "1h")]
    buffer: PersistedBuffer<i64>,
    #[persisted(expire_after_access = "1h")]
    read: PersistedValue<i64>,
    #[persisted]
    registry: PersistedRegistry,
    #[persisted]
    forever: PersistedValue<i64>,
}

/// Puts a number everywhere; 0 only reads.
impl Handle<i64> for Shelf {
    fn handle(&mut self, number: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        let hour = Expiration::AfterWrite {
            after_ms: 3_600_000,
        };
        let registered = self
            .registry
            .state::<PersistedTable<i64, i64>>("visits", hour)?;
        if number == 0 {
            let _ = (self.read.get(), self.value.get(), self.table.get(&1)?);
            return Ok(());
        }
        registered.set(number, number);
        self.value.set(number);
        self.table.set(number, number);
        self.buffer.append(number);
        self.read.set(number);
        self.forever.set(number);
        Ok(())
    }
}

const HALF: Duration = Duration::from_mins(30);
const SWEPT: Duration = Duration::from_hours(1);

/// The names of the states that have rows, once per row.
fn rows(app: &Harness) -> Vec<&'static str> {
    let names = ["value", "table", "buffer", "read", "registry", "forever"];
    let rows = app
        .store
        .scan(&[Space::State as u8], &[Space::State as u8 + 1], usize::MAX)
        .unwrap();
    let name = |key: &[u8]| {
        let rest = parse_address_key(key).unwrap().rest.to_vec();
        names
            .into_iter()
            .find(|name| rest.starts_with(&state_id(name).to_be_bytes()))
            .unwrap()
    };
    let mut found: Vec<_> = rows.iter().map(|(key, _)| name(key)).collect();
    found.sort_unstable();
    found
}

/// What is left of an address for good: what does not expire, and that a state was registered.
const LASTING: [&str; 2] = ["forever", "registry"];

fn app(cache_bytes: usize) -> Harness {
    Harness::builder()
        .function::<Shelf>()
        .cache_bytes(cache_bytes)
        .build()
        .unwrap()
}

fn send(app: &mut Harness, numbers: &[i64]) {
    for number in numbers {
        app.send(Shelf::at("x"), *number);
    }
    app.run_until_idle().assert_no_failures();
}

#[test]
fn what_nobody_touches_again_is_deleted() {
    for (cache_bytes, restarts) in [(1 << 20, false), (0, false), (1 << 20, true)] {
        let mut app = app(cache_bytes);
        send(&mut app, &[1, 2]);
        assert_eq!(rows(&app).len(), 11, "{:?}", rows(&app));
        if restarts {
            app.restart();
        }
        app.advance(HALF);
        assert_eq!(rows(&app).len(), 11, "nothing has expired");
        app.advance(HALF).advance(SWEPT);
        // A buffer in memory writes once more that it has no elements.
        app.restart().advance(SWEPT);
        assert_eq!(rows(&app), LASTING, "cache {cache_bytes}, {restarts}");
        send(&mut app, &[3]);
        let state = app.state(Shelf::at("x"), |shelf| {
            let table = shelf.table.entries().unwrap();
            (
                *shelf.value,
                table,
                shelf.buffer.view().unwrap(),
                *shelf.forever,
            )
        });
        assert_eq!(state, (3, vec![(3, 3)], vec![3], 3));
    }
}

#[test]
fn what_is_written_again_stays() {
    for cache_bytes in [1 << 20, 0] {
        let mut app = app(cache_bytes);
        send(&mut app, &[1, 2]);
        app.advance(HALF);
        send(&mut app, &[2]);
        app.advance(HALF).advance(Duration::from_mins(20));
        // Of table and registry, entry 1 is gone; of the buffer, the first two elements.
        let expected = [
            "buffer", "buffer", "forever", "read", "registry", "registry", "table", "value",
        ];
        assert_eq!(rows(&app), expected, "cache {cache_bytes}");
        assert_eq!(
            app.state(Shelf::at("x"), |shelf| shelf.buffer.view())
                .unwrap(),
            [2]
        );
    }
}

#[test]
fn reading_keeps_what_expires_after_access() {
    let mut app = app(1 << 20);
    send(&mut app, &[1]);
    for _ in 0..4 {
        app.advance(HALF);
        send(&mut app, &[0]);
    }
    app.advance(Duration::from_mins(20))
        .restart()
        .advance(Duration::from_mins(9));
    assert_eq!(rows(&app), ["forever", "read", "registry"]);
    assert_eq!(app.state(Shelf::at("x"), |shelf| *shelf.read), 1);
}

#[test]
fn a_buffer_forgets_its_expired_front_when_it_is_written() {
    let mut app = app(0);
    send(&mut app, &[1, 2, 3]);
    app.advance(Duration::from_mins(50));
    send(&mut app, &[4]);
    let len = |app: &mut Harness| app.state(Shelf::at("x"), |shelf| shelf.buffer.len());
    assert_eq!(len(&mut app), 4);
    app.advance(Duration::from_mins(15));
    assert_eq!(len(&mut app), 4, "as long as nothing is appended");
    send(&mut app, &[5]);
    assert_eq!(len(&mut app), 2);
    assert_eq!(
        app.state(Shelf::at("x"), |shelf| shelf.buffer.view())
            .unwrap(),
        [4, 5]
    );
}

/// Many addresses, few bytes of cache, and numbers that are written while looks are under way.
#[test]
fn however_many_there_are() {
    let mut app = app(10_000);
    for round in 0..3 {
        for id in 0..300 {
            if id % (round + 1) == 0 {
                app.send(Shelf::at(id.to_string()), round + 1);
            }
        }
        app.run_until_idle().advance(HALF);
    }
    // Half an hour after the last round, that of round 1 and older has expired.
    app.advance(Duration::from_mins(14)).restart();
    let left = |app: &Harness, name: &str| rows(app).iter().filter(|row| **row == name).count();
    assert_eq!((left(&app, "table"), left(&app, "forever")), (100, 300));
    for id in 0..300 {
        let value = app.state(Shelf::at(id.to_string()), |shelf| {
            shelf.value.get().copied()
        });
        assert_eq!(value, (id % 3 == 0).then_some(3), "{id}");
    }
    app.advance(Duration::from_hours(3))
        .restart()
        .advance(SWEPT);
    assert_eq!(rows(&app).len(), 2 * 300);
}

/// What a look has found is old when it comes back: the rows were written again, applied, and have left memory.
#[test]
fn a_look_that_something_has_overtaken_deletes_nothing() {
    for overtaken_by in ["an apply", "an epoch that ends with it", "nothing"] {
        let mut app = app(0);
        send(&mut app, &[1]);
        app.now = app.now.after(Duration::from_hours(2));
        let looked = loop {
            app.now = app.now.after(Duration::from_secs(1));
            app.worker.set_now(app.now);
            app.worker.fire(usize::MAX).unwrap();
            let look = app.worker.effects.looks.pop().unwrap();
            let looked = look.run(&*app.store, app.store.applied_epoch().unwrap());
            if !looked.expired.is_empty() {
                break looked;
            }
            app.worker.looked(looked).unwrap();
        };
        assert_eq!(looked.expired.len(), 6, "{looked:?}");
        match overtaken_by {
            "an apply" => {
                send(&mut app, &[1]);
                app.worker.looked(looked).unwrap();
            }
            "an epoch that ends with it" => {
                app.worker.looked(looked).unwrap();
                send(&mut app, &[1]);
            }
            _ => app.worker.looked(looked).unwrap(),
        }
        app.commit().unwrap();
        let left = rows(&app);
        if overtaken_by == "nothing" {
            assert_eq!(left, LASTING);
        } else {
            assert_eq!(left.len(), 8, "{overtaken_by}: {left:?}");
        }
    }
}
