//! The steps of an epoch, and of a checkpoint, so that a test which kills the process knows where it hit, and can aim.
//!
//! Without the feature `simulation` nothing of this is compiled in. With it, and with `STATEFUN_TEST_PHASES=FILE`, every step
//! is noted in the file: the last step's number, then how often each was reached, as little-endian `u64`. With
//! `STATEFUN_TEST_KILL=STEP:N` besides, the process sends itself a SIGKILL when it reaches that step for the N-th time.

/// The steps, in the order in which an epoch takes them, and then a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Step {
    /// What the last epoch left is known, nothing runs yet.
    Recovered,
    /// A worker has captured its part.
    Cut,
    /// The parts of all workers are there.
    Gathered,
    /// The record is written, and not synced.
    Written,
    /// The record is durable; nobody knows yet.
    Synced,
    /// Output was passed on, clients are answered.
    Released,
    /// A sink has taken the epoch's records.
    Delivered,
    /// A sink has made what it took safe; the log does not know yet.
    Flushed,
    /// The state store is about to apply the epoch, among others.
    Applying,
    /// It has, and the log may be let go.
    Applied,
    /// The blob store has the epoch, and nobody knows yet (`durability: blob`).
    Completed,
    /// An object of a checkpoint is about to be uploaded.
    Uploading,
    /// All objects of a checkpoint are there, and nothing names it.
    Uploaded,
    /// The manifest names it, and what it replaces is still there.
    Published,
    /// What it replaces was removed.
    Collected,
}

impl Step {
    /// How many of [`ALL`](Self::ALL) an epoch takes without checkpoints.
    pub const OF_EPOCH: usize = 10;

    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Recovered,
        Self::Cut,
        Self::Gathered,
        Self::Written,
        Self::Synced,
        Self::Released,
        Self::Delivered,
        Self::Flushed,
        Self::Applying,
        Self::Applied,
        Self::Completed,
        Self::Uploading,
        Self::Uploaded,
        Self::Published,
        Self::Collected,
    ];

    /// Its name, as `STATEFUN_TEST_KILL` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Cut => "cut",
            Self::Gathered => "gathered",
            Self::Written => "written",
            Self::Synced => "synced",
            Self::Released => "released",
            Self::Delivered => "delivered",
            Self::Flushed => "flushed",
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Completed => "completed",
            Self::Uploading => "uploading",
            Self::Uploaded => "uploaded",
            Self::Published => "published",
            Self::Collected => "collected",
        }
    }
}

/// The process has reached a step.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
pub(crate) fn reached(_step: Step) {}

#[cfg(feature = "simulation")]
pub(crate) use watched::reached;

#[cfg(feature = "simulation")]
mod watched {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Step;

    struct Watch {
        file: File,
        counts: [AtomicU64; Step::ALL.len()],
        kill: Option<(Step, u64)>,
    }

    /// The process has reached a step.
    #[inline]
    pub(crate) fn reached(step: Step) {
        static WATCH: OnceLock<Option<Watch>> = OnceLock::new();
        if let Some(watch) = WATCH.get_or_init(Watch::from_environment) {
            watch.reached(step);
        }
    }

    impl Watch {
        fn from_environment() -> Option<Self> {
            let file = File::create(std::env::var_os("STATEFUN_TEST_PHASES")?).ok()?;
            let kill = std::env::var("STATEFUN_TEST_KILL").ok().and_then(|kill| {
                let (name, count) = kill.split_once(':')?;
                let step = Step::ALL.into_iter().find(|step| step.name() == name)?;
                Some((step, count.parse().ok()?))
            });
            Some(Self {
                file,
                counts: Default::default(),
                kill,
            })
        }

        fn reached(&self, step: Step) {
            let Some(counter) = self.counts.get(step as usize) else {
                return;
            };
            let count = counter.fetch_add(1, Ordering::SeqCst) + 1;
            // A test that cannot read the file says so.
            let _ = self
                .file
                .write_all_at(&count.to_le_bytes(), 8 + 8 * step as u64);
            let _ = self.file.write_all_at(&(step as u64).to_le_bytes(), 0);
            if self.kill == Some((step, count)) {
                die();
            }
        }
    }

    #[expect(
        unsafe_code,
        reason = "a process can kill itself without any cleaning up only by a signal"
    )]
    fn die() {
        // SAFETY: both calls take and return plain numbers.
        unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
    }
}
