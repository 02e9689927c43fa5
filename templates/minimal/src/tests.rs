use statefun::testing::Harness;

use super::*;

fn seen(name: &str) -> Seen {
    Seen {
        name: name.to_owned(),
    }
}

#[test]
fn each_name_is_counted_by_itself() {
    let mut app = Harness::new();
    for name in ["Ada", "Grace", "Ada"] {
        app.send(Counter::at(name), seen(name));
    }
    app.run_until_idle();
    let counts: Vec<(String, u64)> = app
        .egress(COUNTS)
        .into_iter()
        .map(|count| (count.name, count.count))
        .collect();
    let expected = [("Ada", 1), ("Grace", 1), ("Ada", 2)];
    assert_eq!(
        counts,
        expected.map(|(name, count)| (name.to_owned(), count))
    );
}

#[test]
fn counts_survive_a_restart() {
    let mut app = Harness::new();
    app.send(Counter::at("Ada"), seen("Ada")).run_until_idle();
    app.restart();
    app.send(Counter::at("Ada"), seen("Ada")).run_until_idle();
    assert_eq!(app.state(Counter::at("Ada"), |counter| *counter.count), 2);
}
