//! What a start does, and what holds a running engine up, is known to whoever asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::running::Running;
use crate::engine::condition::Condition;
use crate::engine::start::EngineSettings;
use crate::engine::starting::{StartListener, StartStep};
use crate::prelude::*;

static GATE: AtomicBool = AtomicBool::new(false);

/// Returns when the gate is open.
#[stateful_function(typename = "tests/waiting", accepts(bool))]
struct Waiting {
    #[persisted]
    count: PersistedValue<u64>,
}

impl Handle<bool> for Waiting {
    fn handle(&mut self, waits: bool, _: &mut Context<'_, Self>) -> HandlerResult {
        while waits && !GATE.load(Ordering::SeqCst) {
            crate::clock::pause(Duration::from_millis(1));
        }
        *self.count += 1;
        Ok(())
    }
}

fn settings() -> EngineSettings {
    EngineSettings {
        workers: 2,
        warn_after: Duration::from_millis(5),
        ..EngineSettings::default()
    }
}

#[test]
fn a_handler_that_blocks_its_worker_is_known_until_it_returns() {
    let directory = tempfile::tempdir().unwrap();
    let mut app = Running::start(directory.path(), "tests/none", settings(), |binder| {
        binder.register::<Waiting>();
    });
    let condition = |app: &Running| app.engine().handle().condition();
    assert_eq!(condition(&app), Condition::default());
    app.send(Waiting::at("w-1"), true);
    app.eventually("the handler is known", |app| {
        let blocked = condition(app).blocked;
        blocked
            .iter()
            .any(|one| one.function == "tests/waiting" && one.worker < 2)
    });
    GATE.store(true, Ordering::SeqCst);
    app.eventually("it is forgotten", |app| {
        condition(app) == Condition::default()
    });
    let handle = app.engine().handle().clone();
    app.stop();
    let after = handle.condition();
    assert!(after.stopping && after.failed.is_none(), "{after:?}");
}

#[test]
fn a_start_tells_what_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let applied: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let start = || {
        let (steps, epochs) = (heard.clone(), applied.clone());
        let listener = StartListener::new(move |step| {
            if let StartStep::Applying { epoch, last } = step {
                epochs.lock().unwrap().push((epoch, last));
            }
            let step = step.to_string();
            let (step, _) = step.split_once(", ").unwrap_or((&step, ""));
            let mut steps = steps.lock().unwrap();
            if steps.last().is_none_or(|last| last != step) {
                steps.push(step.to_owned());
            }
        });
        Running::start_heard(
            directory.path(),
            "tests/none",
            settings(),
            listener,
            |binder| {
                binder.register::<Waiting>();
            },
        )
    };
    let mut app = start();
    for number in 0..10 {
        app.send(Waiting::at(number.to_string()), false);
    }
    app.eventually("all are handled", |app| {
        app.engine().handle().invocations() == 10
    });
    app.stop();
    heard.lock().unwrap().clear();
    applied.lock().unwrap().clear();
    start().stop();
    let expected = [
        StartStep::Store.to_string(),
        StartStep::Log.to_string(),
        "recovery: epochs of the log are applied to the state store".to_owned(),
        StartStep::Ingress("tests/feed").to_string(),
        StartStep::Egress("tests/none").to_string(),
        StartStep::Sinks.to_string(),
        StartStep::Workers.to_string(),
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
    let applied = applied.lock().unwrap();
    let (epoch, last) = applied.last().copied().unwrap();
    assert!(epoch == last && last > 0, "{applied:?}");
    assert!(applied.is_sorted(), "{applied:?}");
}
