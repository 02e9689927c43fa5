//! A state store on a simulated machine: an apply takes effect as a whole, at some moment before it returns, also between two
//! reads. It is safe when it has returned: until then a power cut takes it back, rows and marker together, also when it
//! has been seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::Crash;
use crate::rand::Random;
use crate::state::memory::MemoryStore;
use crate::state::{Row, RowChange, StateError, StateReader, StateSnapshot, StateStore};

#[derive(Debug)]
struct UnderWay {
    epoch: u64,
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

#[derive(Debug)]
struct Inner {
    random: Random,
    /// Handed over, and in effect at one of the next reads, or when it is settled.
    under_way: Option<UnderWay>,
    /// Whether the next apply goes on while others read.
    linger: bool,
    /// The machine goes down at the next apply: before it took effect, or after.
    crash: Option<bool>,
    /// The next apply says that the disk is full: before it took effect, or after.
    full: Option<bool>,
    /// What there was before an apply that is seen and has not returned.
    before: Option<MemoryStore>,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct SimStore {
    rows: Mutex<MemoryStore>,
    inner: Mutex<Inner>,
}

impl SimStore {
    pub(super) fn new(seed: u64) -> Self {
        let inner = Inner {
            random: Random::seeded(seed),
            under_way: None,
            linger: false,
            crash: None,
            full: None,
            before: None,
        };
        Self {
            rows: Mutex::default(),
            inner: Mutex::new(inner),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> MutexGuard<'_, MemoryStore> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next apply return before it is in effect, as a thread's that is still at it.
    pub(super) fn linger(&self) {
        self.inner().linger = true;
    }

    /// Lets the machine go down at the next apply, after or before it took effect.
    pub(super) fn crash_at_apply(&self, after: bool) {
        self.inner().crash = Some(after);
    }

    /// Lets the next apply meet a full disk, after or before it took effect.
    pub(super) fn full_at_apply(&self, after: bool) {
        self.inner().full = Some(after);
    }

    /// The apply under way has returned.
    pub(super) fn settle(&self) -> Result<(), StateError> {
        let under_way = self.inner().under_way.take();
        under_way.map_or(Ok(()), |under_way| self.take_effect(under_way))?;
        self.inner().before = None;
        Ok(())
    }

    /// The machine went down: the apply under way is in effect, or never was.
    pub(super) fn crash(&self, crash: Crash) -> Result<(), StateError> {
        let mut inner = self.inner();
        inner.linger = false;
        inner.crash = None;
        inner.full = None;
        if inner.random.below(2) == 0 {
            inner.under_way = None;
            let before = inner.before.take();
            if crash == Crash::Power
                && let Some(before) = before
            {
                *self.rows() = before;
            }
        }
        drop(inner);
        self.settle()
    }

    fn take_effect(&self, under_way: UnderWay) -> Result<(), StateError> {
        let mut changes = under_way
            .changes
            .iter()
            .map(|(key, value)| (&key[..], value.as_deref()));
        let rows = self.rows();
        self.inner().before = Some(rows.clone());
        rows.apply(under_way.epoch, &mut changes)
    }

    /// Somebody reads: meanwhile the apply under way may take effect.
    fn read(&self) -> Result<(), StateError> {
        let mut inner = self.inner();
        let now = inner.under_way.is_some() && inner.random.below(6) == 0;
        let under_way = if now { inner.under_way.take() } else { None };
        drop(inner);
        under_way.map_or(Ok(()), |under_way| self.take_effect(under_way))
    }

    /// All rows.
    pub(super) fn all(&self) -> Result<Vec<Row>, StateError> {
        self.rows().scan(&[], &[], usize::MAX)
    }
}

impl StateReader for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.read()?;
        self.rows().get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        self.read()?;
        self.rows().scan(start, end, limit)
    }
}

/// What an apply says when the machine goes down meanwhile.
const DOWN: &str = "the simulated machine is down";

/// Whether that is what an error says.
pub(super) fn is_down(error: &StateError) -> bool {
    error.to_string().contains(DOWN)
}

impl StateStore for SimStore {
    fn apply(
        &self,
        epoch: u64,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
    ) -> Result<(), StateError> {
        let changes: Vec<_> = changes
            .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
            .collect();
        if let Some(pair) = changes.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(StateError::Store(format!(
                "rows are not sorted: {:?} twice or out of order",
                pair[0].0
            )));
        }
        let under_way = UnderWay { epoch, changes };
        let mut inner = self.inner();
        let crash = inner.crash.take();
        if crash == Some(false) {
            return Err(StateError::Store(DOWN.to_owned()));
        }
        let full = inner.full.take();
        if crash.is_none() && full.is_none() && std::mem::take(&mut inner.linger) {
            inner.under_way = Some(under_way);
            return Ok(());
        }
        drop(inner);
        if full != Some(false) {
            self.take_effect(under_way)?;
        }
        if crash == Some(true) {
            return Err(StateError::Store(DOWN.to_owned()));
        }
        self.inner().before = None;
        match full {
            Some(_) => Err(StateError::NoSpace {
                directory: "/data/state".into(),
                problem: "the simulated disk is full".to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn applied_epoch(&self) -> Result<u64, StateError> {
        self.rows().applied_epoch()
    }

    fn snapshot(&self) -> Result<Arc<dyn StateSnapshot>, StateError> {
        self.read()?;
        self.rows().snapshot()
    }
}

/// Loses a row of some applies.
#[derive(Debug)]
pub(super) struct Leaky {
    store: Arc<SimStore>,
    applies: AtomicU64,
}

impl Leaky {
    pub(super) fn new(store: Arc<SimStore>) -> Self {
        Self {
            store,
            applies: AtomicU64::new(0),
        }
    }
}

impl StateReader for Leaky {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.store.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        self.store.scan(start, end, limit)
    }
}

impl StateStore for Leaky {
    fn apply(
        &self,
        epoch: u64,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
    ) -> Result<(), StateError> {
        let loses = self.applies.fetch_add(1, Ordering::Relaxed) % 3 == 0;
        self.store
            .apply(epoch, &mut changes.skip(usize::from(loses)))
    }

    fn applied_epoch(&self) -> Result<u64, StateError> {
        self.store.applied_epoch()
    }

    fn snapshot(&self) -> Result<Arc<dyn StateSnapshot>, StateError> {
        self.store.snapshot()
    }
}
