//! States larger than what is kept of them in memory.

use statefun_core::prelude::*;
use statefun_core::testing::Harness;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "large/Fill")]
struct Fill {
    from: u32,
    to: u32,
}

#[stateful_function(typename = "large/ledger", accepts(Fill, i64), retry(max_attempts = 1))]
struct Ledger {
    #[persisted]
    entries: PersistedTable<u32, String>,
    #[persisted]
    lines: PersistedBuffer<u32>,
}

impl Handle<Fill> for Ledger {
    fn handle(&mut self, fill: Fill, _: &mut Context<'_, Self>) -> HandlerResult {
        for number in fill.from..fill.to {
            self.entries.set(number, format!("entry {number}"));
            self.lines.append(number);
        }
        Ok(())
    }
}

/// Reads everything entry by entry, and removes what the number divides; fails when it is negative.
impl Handle<i64> for Ledger {
    fn handle(&mut self, number: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        let by = number.unsigned_abs() as u32;
        for key in self.entries.keys()? {
            assert_eq!(
                self.entries.get(&key)?.map(String::as_str),
                Some(format!("entry {key}").as_str())
            );
            if key % by == 0 {
                self.entries.remove(&key);
            }
        }
        if number < 0 {
            self.lines.clear();
            return Err(HandlerError::new("told to fail"));
        }
        Ok(())
    }
}

const ENTRIES: u32 = 5000;

fn keys(app: &mut Harness) -> Vec<u32> {
    app.state(Ledger::at("x"), |ledger| ledger.entries.keys())
        .unwrap()
}

/// All keys, read in pages of 70.
fn paged(app: &mut Harness) -> Vec<u32> {
    app.state(Ledger::at("x"), |ledger| {
        let (mut keys, mut from) = (Vec::new(), 0);
        loop {
            let page = ledger.entries.entries_from(&from, 70).unwrap();
            keys.extend(page.iter().map(|(key, _)| *key));
            match page.last() {
                Some((last, _)) if page.len() == 70 => from = last + 1,
                _ => return keys,
            }
        }
    })
}

#[test]
fn tables_and_buffers_hold_more_than_memory_does() {
    let mut app = Harness::builder()
        .function::<Ledger>()
        .cache_bytes(0)
        .build()
        .unwrap();
    // In one epoch, in several, and some of it overwritten.
    for (from, to) in [(0, 2000), (1500, 4000), (4000, ENTRIES)] {
        app.send(Ledger::at("x"), Fill { from, to })
            .run_until_idle();
    }
    app.assert_no_failures();
    assert_eq!(keys(&mut app), (0..ENTRIES).collect::<Vec<_>>());
    let lines: Vec<u32> = (0..2000).chain(1500..4000).chain(4000..ENTRIES).collect();
    assert_eq!(
        app.state(Ledger::at("x"), |ledger| ledger.lines.view())
            .unwrap(),
        lines
    );

    app.send(Ledger::at("x"), 3)
        .run(usize::MAX)
        .assert_no_failures();
    let left: Vec<u32> = (0..ENTRIES).filter(|key| key % 3 != 0).collect();
    assert_eq!(keys(&mut app), left, "before the epoch ends");
    assert_eq!(paged(&mut app), left);
    app.run_until_idle();
    assert_eq!(keys(&mut app), left, "after it has");
    assert_eq!(paged(&mut app), left);

    app.send(Ledger::at("x"), -2).run_until_idle();
    assert_eq!(app.parked().len(), 1);
    assert_eq!(keys(&mut app), left, "a failure takes all removals back");
    app.restart();
    assert_eq!(keys(&mut app), left);
    assert_eq!(
        app.state(Ledger::at("x"), |ledger| ledger.lines.view())
            .unwrap(),
        lines
    );
    assert_eq!(
        app.state(Ledger::at("x"), |ledger| ledger.lines.len()),
        lines.len() as u64
    );
}

#[test]
fn many_addresses_share_a_cache_that_holds_few() {
    let mut app = Harness::builder()
        .function::<Ledger>()
        .cache_bytes(4096)
        .build()
        .unwrap();
    for round in 0..3 {
        for id in 0..300 {
            app.send(
                Ledger::at(format!("{id}")),
                Fill {
                    from: round,
                    to: round + 1,
                },
            );
        }
        app.run_until_idle();
    }
    app.assert_no_failures();
    for id in 0..300 {
        let (entries, lines) = app.state(Ledger::at(format!("{id}")), |ledger| {
            (ledger.entries.keys(), ledger.lines.view())
        });
        assert_eq!(
            (entries.unwrap(), lines.unwrap()),
            (vec![0, 1, 2], vec![0, 1, 2]),
            "{id}"
        );
    }
}
