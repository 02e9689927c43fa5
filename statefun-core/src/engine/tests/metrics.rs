//! What an engine says of itself is what happened.

use super::running::Running;
use crate::engine::start::EngineSettings;
use crate::metrics::{FunctionMetrics, Snapshot, expose};
use crate::prelude::*;

const TOTALS: EgressId<i64> = EgressId::new("tests/counted");

#[stateful_function(
    typename = "tests/counted",
    accepts(i64, String),
    sends(CountedTwice),
    egress(TOTALS),
    retry(max_attempts = 1)
)]
struct Counted {
    #[persisted]
    total: PersistedValue<i64>,
}

impl Handle<i64> for Counted {
    fn handle(&mut self, by: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if by < 0 {
            return Err(HandlerError::permanent("below zero"));
        }
        *self.total += by;
        ctx.send(CountedTwice::at(ctx.id()), by);
        ctx.send(CountedTwice::at("all"), by);
        ctx.egress(TOTALS, &*self.total);
        Ok(())
    }
}

/// Later.
impl Handle<String> for Counted {
    fn handle(&mut self, _: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let later = CountedTwice::at(ctx.id());
        ctx.send_after(Duration::from_hours(1), later, 0);
        ctx.send_after(Duration::from_hours(1), CountedTwice::at(ctx.id()), 0)
            .with_token("taken back");
        ctx.cancel("taken back");
        Ok(())
    }
}

#[stateful_function(typename = "tests/counted-twice", accepts(i64))]
struct CountedTwice {
    #[persisted]
    total: PersistedValue<i64>,
}

impl Handle<i64> for CountedTwice {
    fn handle(&mut self, by: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        *self.total += by;
        Ok(())
    }
}

fn start(directory: &std::path::Path) -> Running {
    let settings = EngineSettings {
        workers: 2,
        ..EngineSettings::default()
    };
    Running::start(directory, "tests/counted", settings, |binder| {
        binder.register::<Counted>().register::<CountedTwice>();
    })
}

fn metrics(app: &Running) -> Snapshot {
    app.engine().handle().metrics()
}

fn function<'a>(snapshot: &'a Snapshot, name: &str) -> &'a FunctionMetrics {
    let mut functions = snapshot.functions.iter();
    functions.find(|one| one.function == name).unwrap()
}

#[test]
fn what_happened_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut app = start(directory.path());
    app.eventually("timers to be counted", |app| metrics(app).timers == Some(0));
    for turn in 0..200 {
        app.send(Counted::at((turn % 10).to_string()), 1_i64);
    }
    app.send(Counted::at("bad"), -1_i64);
    app.send(Counted::at("bad"), 1_i64);
    app.send(Counted::at("later"), String::new());
    app.eventually("the output", |app| app.left::<i64>().len() == 200);
    app.eventually("all epochs", |app| {
        let all = metrics(app);
        function(&all, "tests/counted").parked == 1
            && all.timers == Some(1)
            && function(&all, "tests/counted-twice").invocations == 400
            && all.epochs.in_flight == 0
            && all.egresses[0].outbox_epochs == 0
    });
    let all = metrics(&app);
    let counted = function(&all, "tests/counted");
    assert_eq!((counted.invocations, counted.errors), (202, 1));
    assert_eq!((counted.out_egress, counted.retrying), (200, 0));
    // Whichever workers they went to.
    assert_eq!(counted.out_local + counted.out_remote, 400);
    assert!(counted.out_remote > 0 && counted.out_local > 0);
    // The failed message, and the one behind it.
    assert_eq!(counted.backlog, 2);
    // Those that are timed stand for the others.
    let timed = counted.handler_seconds.count();
    assert!(timed > 50 && timed < 800, "{timed}");
    assert_eq!(all.ingresses[0].records, 203);
    assert_eq!(
        (all.egresses[0].records, all.egresses[0].failures),
        (200, 0)
    );
    let feedback: u64 = all.workers.iter().map(|worker| worker.feedback).sum();
    assert_eq!(feedback, 400);
    assert!(all.epochs.durable > 0 && all.epochs.seconds.count() > 0);
    for part in [
        &all.epochs.cut_seconds,
        &all.epochs.fsync_seconds,
        &all.epochs.release_seconds,
    ] {
        assert_eq!(part.count(), all.epochs.seconds.count());
    }
    assert_eq!(all.epochs.upload_seconds.count(), 0);
    assert!(all.state.log_written_bytes > 0 && all.workers[0].cache_bytes > 0);
    assert!(
        all.hottest
            .by_time
            .iter()
            .any(|hot| hot.function.starts_with("tests/counted"))
    );
    let text = expose(&all);
    assert!(text.contains("statefun_function_in_total{function=\"tests/counted\"} 202\n"));
    app.stop();

    // What waits is counted again after a restart, and no more when an operator has let it go on.
    let mut app = start(directory.path());
    app.eventually("what waits to be counted", |app| {
        let all = metrics(app);
        let counted = function(&all, "tests/counted");
        all.timers == Some(1) && (counted.parked, counted.backlog, counted.invocations) == (1, 2, 0)
    });
    app.command(crate::engine::worker::Command::Skip(
        app.engine()
            .handle()
            .address("tests/counted", "bad")
            .unwrap(),
    ));
    app.eventually("the rest of the queue", |app| {
        let all = metrics(app);
        let counted = function(&all, "tests/counted");
        (counted.parked, counted.backlog, counted.invocations) == (0, 0, 1)
    });
    let all = metrics(&app);
    assert!(all.workers.iter().any(|worker| worker.cache_misses > 0));
    app.stop();
}

#[test]
fn a_parked_address_that_leaves_memory_still_counts() {
    let directory = tempfile::tempdir().unwrap();
    let settings = EngineSettings {
        workers: 1,
        cache_bytes: 1 << 16,
        apply_after: Duration::from_millis(20),
        ..EngineSettings::default()
    };
    let mut app = Running::start(directory.path(), "tests/counted", settings, |binder| {
        binder.register::<Counted>().register::<CountedTwice>();
    });
    for id in 0..1000 {
        app.send(Counted::at(format!("bad-{id}")), -1_i64);
    }
    for id in 0..3000 {
        app.send(Counted::at(format!("good-{id}")), 1_i64);
    }
    app.eventually("the output", |app| app.left::<i64>().len() == 3000);
    // Which these thousand alone would not fit into.
    app.eventually("addresses to leave memory", |app| {
        let cached = metrics(app).workers[0].cache_bytes;
        cached < 100_000
    });
    for id in 0..1000 {
        app.send(Counted::at(format!("bad-{id}")), 1_i64);
    }
    app.eventually("the queues", |app| {
        let all = metrics(app);
        let counted = function(&all, "tests/counted");
        (counted.parked, counted.backlog) == (1000, 2000)
    });
    assert!(metrics(&app).workers[0].cache_misses > 0);
    let waiting = app.waiting();
    for address in &waiting {
        app.retry(
            app.engine()
                .handle()
                .address("tests/counted", &address.id)
                .unwrap(),
        );
    }
    // The first message fails again.
    app.eventually("another failure of each", |app| {
        let all = metrics(app);
        let counted = function(&all, "tests/counted");
        (counted.errors, counted.parked, counted.backlog) == (2000, 1000, 2000)
    });
    for address in &waiting {
        let address = app.engine().handle().address("tests/counted", &address.id);
        app.command(crate::engine::worker::Command::Drop(address.unwrap()));
    }
    app.eventually("nothing to wait", |app| {
        let all = metrics(app);
        let counted = function(&all, "tests/counted");
        (counted.parked, counted.backlog, counted.retrying) == (0, 0, 0)
    });
    app.stop();
}
