//! Handlers that block their worker are reported by address, while they still run.
//!
//! A worker publishes the address that it invokes in a few plain stores; a thread looks now and then whether the same
//! invocation is still running. The worker's own thread reads them when a log line is written (`current`).

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::engine::current::Doing;
use crate::engine::shared::{Phase, Shared};
use crate::id::Address;
use crate::metrics::meter::Meters;

/// Words of an id that are kept: 256 bytes. Those that an id does not have are not touched.
const ID_WORDS: usize = 32;

/// What one worker is doing. Odd versions: in a handler. It has cache lines of its own, since it is written all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Watched {
    version: AtomicU64,
    function: AtomicU64,
    epoch: AtomicU64,
    len: AtomicU64,
    id: [AtomicU64; ID_WORDS],
}

impl Watched {
    /// The worker enters a handler.
    #[inline]
    pub(crate) fn enter(&self, address: &Address) {
        self.function
            .store(address.function().ordinal() as u64, Ordering::Relaxed);
        let id = address.id().as_bytes();
        self.len.store(id.len() as u64, Ordering::Relaxed);
        let (whole, rest) = id.as_chunks::<8>();
        let mut words = self.id.iter();
        for (chunk, word) in whole.iter().zip(&mut words) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        if let Some(word) = words.next() {
            let last = rest
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            word.store(last, Ordering::Relaxed);
        }
        // Only this thread writes, so no read-modify-write is needed.
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Release);
    }

    /// The worker has left it.
    #[inline]
    pub(crate) fn leave(&self) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Release);
    }

    /// The worker enters an epoch.
    pub(crate) fn enter_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// The handler that the worker is in; for its own thread, which alone can be sure of what it reads.
    pub(crate) fn handler(&self) -> Option<Doing> {
        (self.version.load(Ordering::Relaxed) % 2 == 1).then(|| Doing::Handler {
            function: self.function(),
            id: self.id(),
            epoch: self.epoch.load(Ordering::Relaxed),
        })
    }

    fn function(&self) -> String {
        let name = crate::id::name_of_ordinal(self.function.load(Ordering::Relaxed) as usize);
        name.map_or_else(|| "?".to_owned(), |name| name.to_string())
    }

    fn id(&self) -> String {
        let len = self.len.load(Ordering::Relaxed) as usize;
        let mut bytes: Vec<u8> = self
            .id
            .iter()
            .take(len.div_ceil(8))
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        let is_cut = len > bytes.len();
        bytes.truncate(len);
        let whole = match std::str::from_utf8(&bytes) {
            Ok(id) => id.len(),
            // Cut within a character, or overwritten while another thread was reading.
            Err(error) => error.valid_up_to(),
        };
        bytes.truncate(whole);
        let mut id = String::from_utf8(bytes).unwrap_or_default();
        if is_cut {
            id.push('…');
        }
        id
    }

    fn address(&self) -> String {
        format!("{}/{}", self.function(), self.id())
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    version: u64,
    since: Stopwatch,
    reported: bool,
}

/// Looks at all workers until the engine stops.
pub(crate) fn watch(workers: &[Watched], meters: &Meters, shared: &Shared, warn_after: Duration) {
    let every = (warn_after / 4).clamp(Duration::from_millis(5), Duration::from_millis(50));
    let mut seen: Vec<Seen> = workers
        .iter()
        .map(|_| Seen {
            version: 0,
            since: Stopwatch::start(),
            reported: false,
        })
        .collect();
    while shared.phase() != Phase::Stopped {
        crate::clock::pause(every);
        for (worker, (watched, seen)) in workers.iter().zip(&mut seen).enumerate() {
            let version = watched.version.load(Ordering::Acquire);
            if version != seen.version {
                if seen.reported {
                    tracing::warn!(
                        worker,
                        ran_for_ms = seen.since.elapsed().as_millis() as u64,
                        "the handler has returned"
                    );
                }
                *seen = Seen {
                    version,
                    since: Stopwatch::start(),
                    reported: false,
                };
                continue;
            }
            let running = version % 2 == 1;
            if !running || seen.reported || seen.since.elapsed() < warn_after {
                continue;
            }
            let address = watched.address();
            fence(Ordering::Acquire);
            // Another invocation may have begun while the address was read.
            if watched.version.load(Ordering::Relaxed) == version {
                seen.reported = true;
                if let Some(meter) = meters.workers.get(worker) {
                    meter.blocked.add(1);
                }
                tracing::warn!(
                    worker,
                    %address,
                    running_for_ms = seen.since.elapsed().as_millis() as u64,
                    "a handler blocks its worker; long work belongs into `ctx.spawn`"
                );
            }
        }
    }
}
