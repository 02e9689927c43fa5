//! A sink on its own thread, as the committer feeds it.

use super::*;
use crate::clock::Timestamp;
use crate::disk::RealDisk;
use crate::engine::cut::{body_slices, encode_head};
use crate::io::egress::{EgressContext, EgressError};
use crate::log::{EpochLog, OpenOptions};

const ID: &str = "test/out";

/// Tells what was delivered to it.
struct Told(Sender<(u64, usize)>);
impl Egress for Told {
    fn open(&mut self, _context: &EgressContext) -> Result<(), EgressError> {
        Ok(())
    }
    fn deliver(&mut self, epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        self.0.send((epoch, records.len())).unwrap();
        Ok(())
    }
    fn flush(&mut self) -> Result<Bytes, EgressError> {
        Ok(Bytes::new())
    }
}

fn part(epoch: u64, egress: &str) -> EpochPart {
    let mut part = EpochPart {
        epoch,
        egress_count: 1,
        ..EpochPart::default()
    };
    egress_framing::push(
        &mut part.egress,
        egress_hash(egress),
        MessageTypeId(7),
        |out| {
            out.push(1);
            Ok::<(), std::convert::Infallible>(())
        },
    )
    .unwrap();
    part
}

fn append(log: &mut EpochLog, epoch: u64, egress: &str) -> Arc<EpochEgress> {
    let mut parts = vec![part(epoch, egress)];
    let mut head = Vec::new();
    encode_head(&mut head, Timestamp(1), &[], &parts);
    log.append(epoch, &body_slices(&head, &parts)).unwrap();
    Arc::new(EpochEgress::take(epoch, &mut parts, &Buffers::default()).unwrap())
}

struct Running {
    log: EpochLog,
    feed: Arc<SinkFeed>,
    told: crossbeam_channel::Receiver<(u64, usize)>,
    positions: crossbeam_channel::Receiver<ToCommit>,
    thread: std::thread::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

/// A sink that finds one epoch in the log, which is durable and not pushed yet.
fn run() -> (Running, Arc<EpochEgress>) {
    let directory = tempfile::tempdir().unwrap();
    let mut see = |_: crate::log::RecordView<'_>| Ok::<(), std::convert::Infallible>(());
    let opened = EpochLog::open(
        Arc::new(RealDisk),
        directory.path(),
        &OpenOptions::new(1),
        &mut see,
    )
    .unwrap();
    let mut log = opened.log;
    let (tell, told) = crossbeam_channel::unbounded();
    let (commit, positions) = crossbeam_channel::unbounded();
    let feed = Arc::new(SinkFeed::reading_from(1));
    let first = append(&mut log, 1, ID);
    let shared = Arc::new(Shared::new(1, 0, 0));
    let runner = SinkRunner {
        tracer: None,
        id: ID.to_owned(),
        egress: Box::new(Told(tell)),
        feed: feed.clone(),
        log: log.reader(),
        commit,
        shared: shared.clone(),
        names: Arc::new(|_| "test/Type"),
        settled: Arc::new(AtomicBool::new(true)),
    };
    let thread = crate::engine::threads::spawn("sink", &shared, move || runner.run()).unwrap();
    let running = Running {
        log,
        feed,
        told,
        positions,
        thread,
        _directory: directory,
    };
    assert_eq!(running.told.recv_timeout(PATIENCE).unwrap(), (1, 1));
    while running.feed.queue().read_from.is_some() {
        crate::clock::pause(Duration::from_millis(1));
    }
    (running, first)
}

const PATIENCE: Duration = Duration::from_mins(1);

/// What was read from the log is pushed as well, and then the next epoch: only that one is delivered.
fn only_the_next_is_delivered(mut sink: Running, first: &Arc<EpochEgress>) {
    sink.feed.push(first);
    sink.feed.push(&append(&mut sink.log, 2, ID));
    assert_eq!(sink.told.recv_timeout(PATIENCE).unwrap(), (2, 1));
    sink.feed.close();
    sink.thread.join().unwrap();
    assert!(sink.told.try_recv().is_err());
}

#[test]
fn an_epoch_that_was_read_from_the_log_already_is_not_delivered_again() {
    let (sink, first) = run();
    only_the_next_is_delivered(sink, &first);
}

#[test]
fn an_epoch_that_was_read_from_the_log_already_is_not_read_again() {
    let (sink, first) = run();
    sink.feed.overflow(1);
    only_the_next_is_delivered(sink, &first);
}

#[test]
fn a_sink_that_gets_nothing_says_that_it_is_past_it() {
    let (mut sink, _) = run();
    for epoch in 2..9 {
        sink.feed.push(&append(&mut sink.log, epoch, "test/other"));
    }
    loop {
        match sink.positions.recv_timeout(PATIENCE).unwrap() {
            ToCommit::Sink(position) if position.through_epoch == 8 => break,
            _ => {}
        }
    }
    sink.feed.close();
    sink.thread.join().unwrap();
}
