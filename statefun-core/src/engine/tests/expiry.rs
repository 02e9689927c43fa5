//! Rows that have expired leave the store of a running engine by themselves.

use super::running::Running;
use crate::engine::start::EngineSettings;
use crate::prelude::*;
use crate::state::StateReader;
use crate::state::fjall::FjallStore;
use crate::state::keys::Space;

#[stateful_function(typename = "tests/fleeting", accepts(i64))]
struct Fleeting {
    #[persisted(expire_after_write = "1ms")]
    value: PersistedValue<i64>,
    #[persisted(expire_after_write = "1ms")]
    table: PersistedTable<i64, i64>,
}

impl Handle<i64> for Fleeting {
    fn handle(&mut self, number: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        self.value.set(number);
        self.table.set(number, number);
        Ok(())
    }
}

#[test]
fn an_idle_engine_deletes_what_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let settings = EngineSettings {
            workers: 2,
            ..EngineSettings::default()
        };
        Running::start(directory.path(), "tests/none", settings, |binder| {
            binder.register::<Fleeting>();
        })
    };
    let rows = || {
        let store = FjallStore::open(&directory.path().join("state"), 1 << 20).unwrap();
        let end = [Space::State as u8 + 1];
        store
            .scan(&[Space::State as u8], &end, usize::MAX)
            .unwrap()
            .len()
    };
    let mut app = start();
    for number in 0..100 {
        app.send(Fleeting::at(number.to_string()), number);
    }
    app.eventually("all are handled", |app| {
        app.engine().handle().invocations() == 100
    });
    app.stop();
    // The start brings what is in the log into the store.
    start().stop();
    assert_eq!(rows(), 200);

    let mut app = start();
    app.eventually("all rows are deleted", |app| {
        app.engine().handle().expired_rows() == 200
    });
    app.stop();
    start().stop();
    assert_eq!(rows(), 0);
}
