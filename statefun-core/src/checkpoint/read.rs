//! Reading the rows of a checkpoint, from where its objects are.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64;

use crate::checkpoint::bucket::Bucket;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::make::range_of;
use crate::checkpoint::manifest::{Base, Delta, Descriptor, Object, Part};
use crate::checkpoint::run::{
    Fetch, KeyFilter, Merge, Pending, Rows, RunError, RunPart, RunStream,
};
use crate::checkpoint::tail::unpacked;
use crate::checkpoint::uploads::Waiting;

/// Memory for what is read ahead, in bytes, and the bounds of a stream's share.
const AHEAD_BYTES: usize = 192 << 20;
const MOST_WINDOW_BYTES: usize = 4 << 20;
const LEAST_WINDOW_BYTES: usize = 128 << 10;

/// The bucket as what parts are read from.
pub(crate) struct Remote {
    bucket: Bucket,
    runtime: Handle,
}

impl Remote {
    pub(crate) fn source(bucket: &Bucket, runtime: &Handle) -> Arc<dyn Fetch> {
        Arc::new(Self {
            bucket: bucket.clone(),
            runtime: runtime.clone(),
        })
    }
}

impl Fetch for Remote {
    fn fetch(&self, name: &str, range: Range<u64>) -> Pending {
        let (arrival, pending) = Pending::coming();
        let (bucket, name) = (self.bucket.clone(), name.to_owned());
        self.runtime.spawn(async move {
            let read = bucket.get_range(&name, range).await;
            arrival.give(read.map_err(Into::into));
        });
        pending
    }
}

/// An object of a checkpoint, as it was written; `told_by` is who says so, in messages.
pub(crate) async fn object(
    bucket: &Bucket,
    (name, checksum): (&str, u64),
    (checkpoint, told_by): (&str, &str),
) -> Result<Bytes, CheckpointError> {
    let bytes = bucket
        .get(name)
        .await?
        .ok_or_else(|| CheckpointError::Missing {
            object: name.to_owned(),
            checkpoint: checkpoint.to_owned(),
        })?;
    check(name, &bytes, checksum, told_by)?;
    Ok(bytes)
}

/// Whether an object is what it was.
pub(crate) fn check(
    name: &str,
    bytes: &[u8],
    checksum: u64,
    told_by: &str,
) -> Result<(), CheckpointError> {
    let found = xxh3_64(bytes);
    if found == checksum {
        return Ok(());
    }
    Err(CheckpointError::Damaged {
        object: name.to_owned(),
        problem: format!("its checksum is {found:016x}, and {told_by} says {checksum:016x}"),
    })
}

/// The content of an object of the tail.
pub(crate) async fn tail_object(
    bucket: &Bucket,
    descriptor: &Descriptor,
    object: &Object,
) -> Result<Vec<u8>, CheckpointError> {
    let told_by = format!("checkpoint {}", descriptor.id);
    let (name, whose) = (
        object.object.as_str(),
        (descriptor.id.as_str(), &told_by[..]),
    );
    let bytes = self::object(bucket, (name, object.checksum), whose).await?;
    unpacked(name, &bytes)
}

/// The messages that were under way.
pub(crate) async fn carried(
    bucket: &Bucket,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, CheckpointError> {
    match &descriptor.tail.carried {
        Some(object) => tail_object(bucket, descriptor, object).await,
        None => Ok(Vec::new()),
    }
}

fn run_parts(parts: &[Part]) -> impl Iterator<Item = RunPart> {
    parts.iter().map(|part| RunPart {
        name: part.object.clone(),
        summary: part.summary.clone(),
    })
}

/// The rows of several deltas, of each the newest; deletes are among them.
pub(crate) fn merged(
    bucket: &Bucket,
    waiting: &Waiting,
    deltas: &[Delta],
) -> Result<impl Rows, CheckpointError> {
    let source = Remote::source(bucket, &waiting.runtime);
    let mut merge = Merge::new();
    for delta in deltas.iter().rev() {
        merge = merge.with(RunStream::new(
            source.clone(),
            run_parts(&delta.parts),
            &[],
            &[],
            LEAST_WINDOW_BYTES,
        )?);
    }
    Ok(merge)
}

/// The rows of a checkpoint from `start` on and before `end` (no end when it is empty), in the order of their keys.
pub(crate) fn rows(
    source: &Arc<dyn Fetch>,
    descriptor: &Descriptor,
    (start, end): (&[u8], &[u8]),
) -> Result<Merge<Box<dyn Rows + Send>>, RunError> {
    // Two windows of each delta, and of two bases.
    let window = AHEAD_BYTES / 2 / (descriptor.deltas.len() + 2);
    let window = window.clamp(LEAST_WINDOW_BYTES, MOST_WINDOW_BYTES);
    let epochs: Arc<[u64]> = (0..descriptor.key_groups.count())
        .map(|group| descriptor.base_of(group).map_or(0, |base| base.epoch))
        .collect();
    let mut merge: Merge<Box<dyn Rows + Send>> = Merge::new().without_deletes();
    for delta in descriptor.deltas.iter().rev() {
        let stream = RunStream::new(source.clone(), run_parts(&delta.parts), start, end, window)?;
        let (epochs, epoch) = (epochs.clone(), delta.epoch);
        let newer_than_base: KeyFilter = Box::new(move |key| {
            let group = key
                .get(1..3)
                .and_then(|group| group.try_into().ok())
                .map(u16::from_be_bytes);
            group
                .and_then(|group| epochs.get(usize::from(group)))
                .is_none_or(|base| epoch > *base)
        });
        merge = merge.with_filtered(Box::new(stream), newer_than_base);
    }
    Ok(merge.with(Box::new(Bases::new(
        source.clone(),
        descriptor,
        (start, end),
        window,
    ))))
}

/// The rows of all bases in the order of their keys: space by space, and in each the key groups in order.
struct Bases {
    source: Arc<dyn Fetch>,
    bases: Vec<Base>,
    spaces: Vec<u8>,
    start: Vec<u8>,
    end: Vec<u8>,
    window_bytes: usize,
    /// The next space, and the next base of it.
    next: (usize, usize),
    stream: Option<RunStream>,
    ahead: Option<RunStream>,
}

impl Bases {
    fn new(
        source: Arc<dyn Fetch>,
        descriptor: &Descriptor,
        (start, end): (&[u8], &[u8]),
        window_bytes: usize,
    ) -> Self {
        let mut bases = descriptor.bases.clone();
        bases.sort_by_key(|base| base.first_group);
        let mut spaces: Vec<u8> = bases
            .iter()
            .flat_map(|base| base.spaces.iter().copied())
            .collect();
        spaces.sort_unstable();
        spaces.dedup();
        Self {
            source,
            bases,
            spaces,
            start: start.to_vec(),
            end: end.to_vec(),
            window_bytes,
            next: (0, 0),
            stream: None,
            ahead: None,
        }
    }

    /// Opens the next base that may have rows of the range; none when there is none.
    fn open_next(&mut self) -> Result<Option<RunStream>, RunError> {
        while let Some(space) = self.spaces.get(self.next.0).copied() {
            let Some(base) = self.bases.get(self.next.1) else {
                self.next = (self.next.0 + 1, 0);
                continue;
            };
            self.next.1 += 1;
            let (mut start, mut end) = range_of(space, (base.first_group, base.last_group));
            if start < self.start {
                start.clone_from(&self.start);
            }
            if !self.end.is_empty() && end > self.end {
                end.clone_from(&self.end);
            }
            if start >= end || !base.spaces.contains(&space) {
                continue;
            }
            let parts = run_parts(&base.parts);
            let stream =
                RunStream::new(self.source.clone(), parts, &start, &end, self.window_bytes)?;
            return Ok(Some(stream));
        }
        Ok(None)
    }
}

impl Rows for Bases {
    fn advance(&mut self) -> Result<bool, RunError> {
        loop {
            if let Some(stream) = &mut self.stream
                && stream.advance()?
            {
                return Ok(true);
            }
            self.stream = match self.ahead.take() {
                None => self.open_next()?,
                ahead => ahead,
            };
            if self.stream.is_none() {
                return Ok(false);
            }
            // Its first rows come while those of this one are used.
            self.ahead = self.open_next()?;
        }
    }

    fn key(&self) -> &[u8] {
        self.stream.as_ref().map_or(&[], Rows::key)
    }

    fn value(&self) -> Option<&[u8]> {
        self.stream.as_ref()?.value()
    }
}
