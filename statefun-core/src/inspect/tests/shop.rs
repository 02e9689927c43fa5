//! An application with states of every kind, and stores that have its state.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::disk::RealDisk;
use crate::engine::registry::{Parts, Registry};
use crate::inspect::walk::Scope;
use crate::inspect::{
    End, Event, Import, ImportError, Imported, InspectError, Item, Query, StateView, export, run,
};
use crate::prelude::*;
use crate::state::fjall::FjallStore;
use crate::state::{Row, StateError, StateReader, StateSnapshot, StateStore as _};

/// When everything happens.
pub(crate) const NOW: Timestamp = Timestamp(1_000_000);

#[persisted]
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Stock {
    count: u64,
    #[serde(default)]
    note: Option<String>,
}

#[persisted]
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PriceV1 {
    euros: u32,
}

#[persisted(version = 2, migrate_from = PriceV1)]
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Price {
    cents: u32,
}

impl From<PriceV1> for Price {
    fn from(old: PriceV1) -> Self {
        Self {
            cents: old.euros * 100,
        }
    }
}

#[stateful_function(typename = "shop/cart", accepts(bool))]
#[derive(Default)]
pub(crate) struct Cart {
    #[persisted]
    total: PersistedValue<u32>,
    #[persisted]
    items: PersistedTable<String, Stock>,
    #[persisted]
    places: PersistedTable<(i32, bool), Vec<u8>>,
    #[persisted]
    log: PersistedBuffer<String>,
    #[persisted(expire_after_write = "1h")]
    token: PersistedValue<Option<f64>>,
    #[persisted]
    extras: PersistedRegistry,
    #[persisted]
    price: PersistedTable<u8, Price>,
}

#[stateful_function(typename = "shop/counter", accepts(bool))]
#[derive(Default)]
pub(crate) struct Counter {
    #[persisted]
    count: PersistedValue<u64>,
}

impl Handle<bool> for Cart {
    fn handle(&mut self, _: bool, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

impl Handle<bool> for Counter {
    fn handle(&mut self, _: bool, _: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

pub(crate) fn registry() -> Registry {
    let mut binder = Binder::default();
    binder
        .function::<Cart>(Cart::default)
        .function::<Counter>(Counter::default);
    Registry::new(Parts {
        functions: binder.functions,
        factories: binder.factories,
        ..Parts::default()
    })
    .unwrap()
}

struct Snapshot(Arc<dyn StateSnapshot>);

impl StateReader for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.0.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        self.0.scan(start, end, limit)
    }
}

/// A store with the shop's state.
pub(crate) struct Shop {
    pub(crate) store: Arc<FjallStore>,
    catalog: Mutex<Catalog>,
    directory: TempDir,
}

impl Shop {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = FjallStore::open(&directory.path().join("state"), 1 << 20).unwrap();
        Self {
            store: Arc::new(store),
            catalog: Mutex::new(Catalog::of(&registry(), 1)),
            directory,
        }
    }

    /// One that has the state of these lines.
    pub(crate) fn of(lines: &str) -> Self {
        let shop = Self::new();
        shop.import(lines, false).unwrap();
        shop
    }

    pub(crate) fn import(&self, lines: &str, replace: bool) -> Result<Imported, ImportError> {
        let scratch: PathBuf = self.directory.path().into();
        let import = Import::read(
            &mut lines.as_bytes(),
            &registry(),
            NOW,
            Arc::new(RealDisk),
            scratch,
            &mut |_| {},
        )?;
        let imported = import.check(&*self.store, replace)?;
        import.note_versions(&mut self.catalog.lock().unwrap());
        import.apply(&self.store, 5)?;
        Ok(imported)
    }

    pub(crate) fn view(&self) -> StateView {
        let rows = Snapshot(self.store.snapshot().unwrap());
        let epoch = rows.0.applied_epoch().unwrap();
        StateView::new(epoch, &self.catalog.lock().unwrap(), Box::new(rows))
    }

    pub(crate) fn ask(&self, query: &Query) -> Result<(Vec<Item>, End), InspectError> {
        let mut items = Vec::new();
        let end = run(&self.view(), query, NOW, &mut |event| {
            if let Event::Item(item) = event {
                items.push(item);
            }
            ControlFlow::Continue(())
        })?;
        Ok((items, end))
    }

    /// All of it, in lines of about so many bytes of rows.
    pub(crate) fn export(&self, line_bytes: usize) -> String {
        let mut lines = String::new();
        export::export(
            &self.view(),
            &Scope::Everything,
            NOW,
            line_bytes,
            &mut |event| {
                if let Event::Item(line) = event {
                    lines.push_str(&serde_json::to_string(&line).unwrap());
                    lines.push('\n');
                }
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        lines
    }
}

/// Lines, in the order of an export.
pub(crate) const LINES: &str = concat!(
    r#"{"function":"shop/cart","id":"c-1","states":{"extras":{"#,
    r#""days":{"kind":"table","shape":"bool","entries":{"$map":[[{"$key":"AAAAAAAAAAU="},true]]}},"#,
    r#""limit":{"kind":"value","shape":{"uint":64},"value":{"$int":"18446744073709551615"}},"#,
    r#""log":{"kind":"buffer","shape":"string","elements":["x"]},"#,
    r#""unset":{"kind":"value","shape":"unit"}},"#,
    r#""items":{"apple":{"count":2,"note":null},"fig":{"count":1}},"log":["a","b","c"],"#,
    r#""places":{"$map":[[[-1,false],[1,2]],[[3,true],[]]]},"token":2.5,"total":5},"#,
    r#""expires_at_ms":{"items":{"fig":1500000},"log":[0,2000000,3000000],"token":4600000}}"#,
    "\n",
);
