//! The application of [`app`](crate::app) at work, and what the engine's own readers say of what it leaves behind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use statefun_core::catalog::DataDirectory;
use statefun_core::checkpoint::Checkpoints;
use statefun_core::checkpoint::bucket::{Bucket, BucketOptions};
use statefun_core::checkpoint::location::Location;
use statefun_core::checkpoint::restore::{Restore, Restored};
use statefun_core::clock::Stopwatch;
use statefun_core::disk::RealDisk;
use statefun_core::engine::start::{Engine, EngineSettings};
use statefun_core::id::KeyGroups;
use statefun_core::log::{EpochLog, OpenOptions, RecordView};
use statefun_core::runtime::Launch;
use statefun_core::sdk::module::GlobalConfiguration;
use statefun_core::settings::{Durability, Settings};
use statefun_core::state::StateStore as _;
use statefun_core::state::fjall::FjallStore;
use statefun_core::trace::{Tracer, export};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::app::{Connectors, Outside, SPINS, What};

/// Keys and values.
pub(crate) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

const KEY_GROUPS: u16 = 16;
const PATIENCE: Duration = Duration::from_mins(2);
const CACHE_BYTES: u64 = 1 << 20;

pub(crate) struct World {
    pub(crate) runtime: Runtime,
    directory: TempDir,
    data: PathBuf,
    outside: Arc<Outside>,
    tracer: Option<Tracer>,
}

/// Whether messages go round is the same for all.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn bucket(directory: &Path) -> Bucket {
    let location = Location::parse(directory.to_str().unwrap()).unwrap();
    Bucket::open(&location, &BucketOptions::default()).unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            runtime: Runtime::new().unwrap(),
            data: directory.path().join("data"),
            directory,
            outside: Arc::default(),
            tracer: None,
        }
    }

    /// All traces are recorded. Nobody takes the spans.
    pub(crate) fn traced() -> Self {
        let mut settings = Settings::default();
        settings
            .set("tracing.endpoint", "http://127.0.0.1:9")
            .unwrap();
        settings.set("tracing.sample", "1").unwrap();
        let mut world = Self::new();
        let started = export::start(&settings.tracing, world.runtime.handle()).unwrap();
        world.tracer = started.map(|(tracer, _)| tracer);
        world
    }

    /// What a machine that is lost leaves behind: the bucket, with epochs behind the last checkpoint.
    pub(crate) fn left_bucket(&self) -> PathBuf {
        self.directory.path().join("left/bucket")
    }

    /// Log, catalog and `checkpoints.json` of the same moment.
    pub(crate) fn left_data(&self) -> PathBuf {
        self.directory.path().join("left/data")
    }

    fn bucket(&self) -> PathBuf {
        self.directory.path().join("bucket")
    }

    fn start(&self, durability: Option<Durability>) -> Engine {
        let checkpoints = durability.map(|durability| Checkpoints {
            bucket: bucket(&self.bucket()),
            interval: Duration::from_hours(1),
            retain: 10,
            durability,
        });
        Launch::linked(&self.data)
            .module(
                &Connectors(self.outside.clone()),
                &GlobalConfiguration::default(),
            )
            .key_groups(KeyGroups::new(KEY_GROUPS))
            .settings(EngineSettings {
                workers: 1,
                apply_after: Duration::from_millis(50),
                ..EngineSettings::default()
            })
            .checkpoints(checkpoints)
            .tracer(self.tracer.clone())
            .start(self.runtime.handle())
            .unwrap()
    }

    /// Waits until nothing happens any more.
    fn settle(engine: &Engine) {
        let watch = Stopwatch::start();
        let look = || {
            let handle = engine.handle();
            (handle.durable_epoch(), handle.invocations())
        };
        let (mut before, mut same) = (look(), 0);
        while same < 40 {
            assert!(watch.elapsed() < PATIENCE, "it does not come to rest");
            std::thread::sleep(Duration::from_millis(10));
            let now = look();
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
    }

    fn checkpoint(&self, engine: &Engine, name: Option<&str>) {
        let made = engine.handle().make_checkpoint(name.map(str::to_owned));
        self.runtime.block_on(made).unwrap().unwrap();
    }

    /// Three starts: without checkpoints, and with `durability: blob` twice, with checkpoints between them and epochs behind the last.
    pub(crate) fn live(&self) {
        let _alone = alone();
        let outside = &self.outside;
        let value = |to: &str, name: &str| outside.order(to, What::Value(name.to_owned()));
        let entry = |to: &str, key: &str, number, value| {
            outside.order(to, What::Entry(key.to_owned(), number, value));
        };
        let element = |to: &str, text: &str| outside.order(to, What::Element(text.to_owned()));

        let engine = self.start(None);
        for number in 0..12 {
            value(&format!("shelf-{number}"), &format!("name-{number}"));
        }
        value("", "of an empty id");
        value("zero\0inside", "grüße");
        value("forgotten", "soon");
        for number in [-2, -1, 0, 1, i64::MIN, i64::MAX] {
            entry("table", "left", number, 7);
            entry("table", "right\0", number, u32::MAX);
        }
        for text in ["first", "second", "", "fourth"] {
            element("buffer", text);
        }
        outside.order("registry", What::Register("heat".to_owned(), 20));
        outside.order("registry", What::Register("noise".to_owned(), 300));
        outside.order("timer", What::Later("a token".to_owned()));
        outside.order("timer", What::Later("another".to_owned()));
        outside.order("said", What::Say("accepted".to_owned()));
        Self::settle(&engine);
        engine.stop().unwrap();

        let engine = self.start(Some(Durability::Blob));
        outside.order("forgotten", What::Forget);
        outside.order("table", What::NoEntry("left".to_owned(), 0));
        value("shelf-1", "x");
        element("buffer", "fifth");
        outside.order("operation", What::Operation(1));
        Self::settle(&engine);
        self.checkpoint(&engine, Some("before"));
        outside.refuses.store(true, Ordering::SeqCst);
        outside.order("said", What::Say("refused".to_owned()));
        outside.order("said", What::Say("refused as well".to_owned()));
        outside.order("retries", What::Retry);
        value("retries", "behind one that fails");
        outside.order("parked", What::Park);
        for number in 0..3 {
            value("parked", &format!("behind one that is parked {number}"));
        }
        outside.order("cleared", What::Element("gone".to_owned()));
        outside.order("cleared", What::Clear);
        Self::settle(&engine);
        SPINS.store(true, Ordering::SeqCst);
        outside.order("spins", What::Spin);
        let before = engine.handle().durable_epoch();
        while engine.handle().durable_epoch() < before + 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.checkpoint(&engine, Some("with a tail"));
        SPINS.store(false, Ordering::SeqCst);
        Self::settle(&engine);
        value("shelf-2", "changed");
        value("shelf-3", "changed as well");
        Self::settle(&engine);
        self.checkpoint(&engine, None);
        outside.refuses.store(false, Ordering::SeqCst);
        Self::settle(&engine);
        engine.stop().unwrap();

        let engine = self.start(Some(Durability::Blob));
        value("shelf-4", "of the third start");
        Self::settle(&engine);
        self.checkpoint(&engine, None);
        value("shelf-5", "behind the last checkpoint");
        entry("table", "behind", 5, 6);
        outside.order("table", What::NoEntry("left".to_owned(), 1));
        outside.refuses.store(true, Ordering::SeqCst);
        outside.order("said", What::Say("behind the last checkpoint".to_owned()));
        Self::settle(&engine);
        // A clean stop makes a checkpoint, behind which there is nothing.
        copy_tree(&self.bucket(), &self.left_bucket());
        copy_tree(&self.data.join("log"), &self.left_data().join("log"));
        for file in ["catalog.json", "checkpoints.json"] {
            std::fs::copy(self.data.join(file), self.left_data().join(file)).unwrap();
        }
        outside.refuses.store(false, Ordering::SeqCst);
        engine.stop().unwrap();
        assert!(self.outside.ordered() > 40);
    }

    /// Some megabytes, so that bases are written anew for some of the key groups only.
    pub(crate) fn live_large(&self) {
        let fill = |seed: u64, addresses: u64| {
            for number in 0..addresses {
                let what = What::Fill(seed + number, 96 << 10);
                self.outside.order(&format!("large-{number}"), what);
            }
        };
        let engine = self.start(Some(Durability::Local));
        fill(0, 64);
        Self::settle(&engine);
        self.checkpoint(&engine, None);
        fill(1_000, 20);
        Self::settle(&engine);
        self.checkpoint(&engine, None);
        self.outside.order("large-63", What::Forget);
        fill(2_000, 3);
        Self::settle(&engine);
        self.checkpoint(&engine, None);
        copy_tree(&self.bucket(), &self.left_bucket());
        engine.stop().unwrap();
    }
}

/// What a start of the application makes of a data directory: the invocations, and what leaves.
pub(crate) fn go_on(directory: &Path) -> (u64, Vec<String>) {
    let _alone = alone();
    let world = World {
        data: directory.to_owned(),
        ..World::new()
    };
    let engine = world.start(None);
    World::settle(&engine);
    let invocations = engine.handle().invocations();
    engine.stop().unwrap();
    (invocations, world.outside.said())
}

/// Restores a checkpoint, and the epochs behind it when it is the latest one, into a directory.
pub(crate) fn restore(
    runtime: &Runtime,
    from: &Path,
    into: &Path,
    wanted: &str,
    take_over: bool,
) -> Restored {
    let (_stop, stopping) = watch::channel(false);
    let restore = Restore {
        bucket: &bucket(from),
        directory: &DataDirectory {
            root: into.to_owned(),
            disk: Arc::new(RealDisk),
        },
        wanted,
        replace: false,
        take_over,
        runtime: runtime.handle(),
        stopping,
    };
    restore.run(|_| ()).unwrap()
}

/// The rows of a data directory's state store; what its log has besides is not among them.
pub(crate) fn stored_rows(directory: &Path) -> Rows {
    stored(directory).1
}

fn stored(directory: &Path) -> (u64, Rows) {
    let store = FjallStore::open(&directory.join("state"), CACHE_BYTES).unwrap();
    let snapshot = store.snapshot().unwrap();
    // The store's own marker is no row of the application.
    let mut cursor = snapshot.rows(&[0x02], &[]).unwrap();
    let mut rows = Rows::new();
    while let Some((key, value)) = cursor.next_row().unwrap() {
        rows.insert(key.to_vec(), value.to_vec());
    }
    (snapshot.applied_epoch().unwrap(), rows)
}

/// The epochs of a log: number and body. The directory is not to be used afterwards, since opening it is a start.
///
/// `applied` is the epoch that the state store has: the log need not have those before.
pub(crate) fn epochs(directory: &Path, lineage: u64, applied: u64) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut see = |record: RecordView<'_>| {
        found.push((record.epoch, record.body.to_vec()));
        Ok::<(), std::convert::Infallible>(())
    };
    let mut options = OpenOptions::new(lineage);
    options.background = false;
    options.applied_epoch = applied;
    EpochLog::open(
        Arc::new(RealDisk),
        directory.join("log"),
        &options,
        &mut see,
    )
    .unwrap();
    found
}

/// What the body of an epoch says, as far as tests ask.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// In order: the later of two rows with one key counts.
    pub(crate) rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) carried: Vec<u8>,
}

/// Takes the body of an epoch apart.
pub(crate) fn parse_body(mut bytes: &[u8]) -> Body {
    fn take<'a>(bytes: &mut &'a [u8], length: u64) -> &'a [u8] {
        let (head, rest) = bytes.split_at(usize::try_from(length).unwrap());
        *bytes = rest;
        head
    }
    fn number(bytes: &mut &[u8], length: u64) -> u64 {
        let digits = take(bytes, length).iter().rev();
        digits.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
    let bytes = &mut bytes;
    number(bytes, 8);
    let (sinks, workers) = (number(bytes, 4), number(bytes, 4));
    for _ in 0..sinks {
        let name = number(bytes, 2);
        take(bytes, name + 8);
        let position = number(bytes, 4);
        take(bytes, position);
    }
    let lengths: Vec<[u64; 3]> = (0..workers)
        .map(|_| {
            number(bytes, 4);
            [number(bytes, 8), number(bytes, 8), number(bytes, 8)]
        })
        .collect();
    let mut body = Body::default();
    for [rows, carried, egress] in lengths {
        let mut rows = take(bytes, rows);
        while !rows.is_empty() {
            let (key, tag) = (number(&mut rows, 4), number(&mut rows, 4));
            let key = take(&mut rows, key).to_vec();
            let value = take(&mut rows, tag.saturating_sub(1)).to_vec();
            body.rows.push((key, (tag > 0).then_some(value)));
        }
        body.carried.extend_from_slice(take(bytes, carried));
        take(bytes, egress);
    }
    assert!(bytes.is_empty(), "bytes behind the body of an epoch");
    body
}

/// All rows of a restored data directory: those of its store, and what its log has besides; and what is carried at the end. The log is
/// not to be used afterwards.
pub(crate) fn all_rows(directory: &Path, lineage: u64) -> (Rows, Vec<u8>) {
    let (applied, mut rows) = stored(directory);
    let mut carried = Vec::new();
    for (_, body) in epochs(directory, lineage, applied) {
        let body = parse_body(&body);
        for (key, value) in body.rows {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        carried = body.carried;
    }
    (rows, carried)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
