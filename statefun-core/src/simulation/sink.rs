//! The sinks: the real runners with the real file egress, one turn at a time, on the simulated disk.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use crossbeam_channel::Receiver;

use crate::disk::SimDisk;
use crate::engine::cut::SinkPosition;
use crate::engine::driver::ToCommit;
use crate::engine::registry::Registry;
use crate::engine::shared::{EngineError, Phase, Shared};
use crate::engine::sinks::{EpochEgress, Progress, SinkFeed, SinkRunner};
use crate::id::MessageTypeId;
use crate::io::egress::{Egress, EgressContext};
use crate::io::file::FileEgress;
use crate::log::LogReader;
use crate::sdk::egress::egress_hash;
use crate::simulation::Sim;
use crate::simulation::workload::{LETTERS, OTHERS, RECORDS};

/// The egresses of the workload, each a file.
pub(super) const EGRESSES: [&str; 3] = [RECORDS.name(), OTHERS.name(), LETTERS];

/// The file of an egress.
pub(super) fn file_of(egress: &str) -> PathBuf {
    PathBuf::from(format!("/data/out/{}.jsonl", egress.replace('/', "-")))
}

/// One sink of the running process.
struct Sink {
    runner: SinkRunner,
    progress: Progress,
    feed: Arc<SinkFeed>,
    ended: bool,
}

/// The sinks of the running process.
pub(super) struct Sinks {
    sinks: Vec<Sink>,
    accepted: Receiver<ToCommit>,
}

/// Files need no runtime, but contexts have one.
pub(super) fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without threads can be made")
    })
}

fn context(egress: &str, position: Option<Bytes>, lineage: u64) -> EgressContext {
    EgressContext {
        id: egress.to_owned(),
        position,
        lineage,
        restored: false,
        runtime: runtime().handle().clone(),
        stopping: tokio::sync::watch::channel(false).1,
    }
}

impl Sinks {
    /// Opens the egresses where the log knows them to be; `repeats` lets the log's account lag by an epoch.
    pub(super) fn open(
        (disk, registry): (&SimDisk, &Arc<Registry>),
        log: &LogReader,
        positions: &[SinkPosition],
        lineage: u64,
        repeats: bool,
    ) -> Result<Self, EngineError> {
        let (commit, accepted) = crossbeam_channel::unbounded();
        // Nobody waits within a turn: what fails for a while ends it.
        let shared = Arc::new(Shared::new(1, 0, 0));
        shared.enter_phase(Phase::Frozen);
        let names: Arc<dyn Fn(MessageTypeId) -> &'static str + Send + Sync> = {
            let registry = registry.clone();
            Arc::new(move |id| registry.type_name(id))
        };
        let mut sinks = Vec::new();
        for id in EGRESSES {
            let known = positions.iter().find(|position| position.egress == id);
            let spec = serde_json::json!({
                "id": id, "path": file_of(id), "format": "json",
                "csv": {"delimiter": ",", "header": null, "columns": []},
            });
            let spec = serde_json::from_value(spec).expect("the description of an egress");
            let mut egress = FileEgress::new(spec, Arc::new(disk.clone()));
            let position = known.map(|known| known.position.clone());
            egress.open(&context(id, position, lineage))?;
            let through = known.map_or(0, |known| known.through_epoch);
            let from = if repeats { through.max(1) } else { through + 1 };
            let feed = Arc::new(SinkFeed::reading_from(from));
            let runner = SinkRunner {
                tracer: None,
                id: id.to_owned(),
                egress: Box::new(egress),
                feed: feed.clone(),
                log: log.clone(),
                commit: commit.clone(),
                shared: shared.clone(),
                names: names.clone(),
                settled: Arc::new(AtomicBool::new(false)),
            };
            sinks.push(Sink {
                progress: runner.begin(),
                runner,
                feed,
                ended: false,
            });
        }
        Ok(Self { sinks, accepted })
    }

    /// A durable epoch's egress, for all of them. With `overflow` this one leaves it to be read from the log.
    pub(super) fn push(&self, egress: EpochEgress, overflow: Option<usize>) {
        let egress = Arc::new(egress);
        for (index, sink) in self.sinks.iter().enumerate() {
            if overflow == Some(index) {
                sink.feed.overflow(egress.epoch);
            }
            sink.feed.push(&egress);
        }
    }

    /// One of them takes what is next; false when it has ended.
    pub(super) fn turn(&mut self, index: usize, quiet: bool) -> Result<bool, EngineError> {
        let sink = &mut self.sinks[index % EGRESSES.len()];
        sink.runner.turn(&mut sink.progress, quiet)
    }

    /// What they have made safe since this was asked last.
    pub(super) fn accepted(&self) -> Vec<SinkPosition> {
        let positions = self
            .accepted
            .try_iter()
            .filter_map(|message| match message {
                ToCommit::Sink(position) => Some(position),
                ToCommit::Part(_) | ToCommit::Stop => None,
            });
        positions.collect()
    }

    /// Nothing follows: all of them deliver what is there, and end.
    pub(super) fn close(&mut self) -> Result<(), EngineError> {
        for sink in &mut self.sinks {
            sink.feed.close();
            while !sink.ended {
                sink.ended = !sink.runner.turn(&mut sink.progress, false)?;
            }
        }
        Ok(())
    }

    /// Whether one of them still has to take something.
    pub(super) fn have_more(&self) -> bool {
        self.sinks.iter().any(|sink| sink.feed.has_more())
    }
}

impl Sim {
    /// Whether each file holds the beginning of what it must hold; a power cut may have left zeros in it. `whole`: all of it.
    pub(super) fn check_files(&self, whole: bool) -> Result<(), String> {
        for egress in EGRESSES {
            let expected = self.model.files.get(&egress_hash(egress));
            let expected = expected.map_or(&[][..], Vec::as_slice);
            check_file(&self.disk, egress, expected, whole)?;
        }
        Ok(())
    }
}

fn check_file(disk: &SimDisk, egress: &str, expected: &[u8], whole: bool) -> Result<(), String> {
    let found = disk.content(&file_of(egress)).unwrap_or_default();
    if whole && found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b);
        return Err(format!(
            "the file of `{egress}` has {} bytes of {}; they differ from {at:?} on",
            found.len(),
            expected.len()
        ));
    }
    let foreign = found
        .iter()
        .enumerate()
        .find(|(at, byte)| **byte != 0 && expected.get(*at) != Some(byte));
    match foreign {
        Some((at, _)) => Err(format!(
            "the file of `{egress}` shows at byte {at} what is not durable output ({} bytes are)",
            expected.len()
        )),
        None => Ok(()),
    }
}
