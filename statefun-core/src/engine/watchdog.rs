//! Handlers that block their worker are reported by address, while they still run.
//!
//! A worker publishes the address that it invokes in a few plain stores; a thread looks now and then whether the same
//! invocation is still running.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::engine::shared::{Phase, Shared};
use crate::id::Address;
use crate::metrics::meter::Meters;

/// Bytes of an id that a report shows.
const ID_WORDS: usize = 6;

/// What one worker is doing. Odd versions: in a handler. It has cache lines of its own, since it is written all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Watched {
    version: AtomicU64,
    function: AtomicU64,
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

    fn address(&self) -> String {
        let bytes: Vec<u8> = self
            .id
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        let len = self.len.load(Ordering::Relaxed) as usize;
        let shown = String::from_utf8_lossy(bytes.get(..len.min(bytes.len())).unwrap_or_default())
            .into_owned();
        let name = crate::id::name_of_ordinal(self.function.load(Ordering::Relaxed) as usize);
        let more = if len > bytes.len() { "…" } else { "" };
        format!(
            "{}/{shown}{more}",
            name.map_or_else(|| "?".to_owned(), |name| name.to_string())
        )
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
