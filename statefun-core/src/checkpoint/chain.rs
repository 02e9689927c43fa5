//! `durability: blob`: the epochs of a history as a chain of objects, of which each is created only if nobody else has created it.
//!
//! `epochs/LINEAGE/SEQUENCE`, from 1 on without gaps until they are removed. An object holds consecutive epochs, or marks a start
//! of the process or the end of the chain. The layout is told in `statefun-core/FORMAT.md`, under "The chain of epochs".
//!
//! An epoch is complete when its object has been created. Whoever goes on from a chain puts a start behind it first, and
//! starts and seals are never removed: so a process that was overtaken, however long it has slept, finds the next place taken,
//! and nothing of it is ever complete. Epochs are removed when a checkpoint has them.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoint::bucket::{Bucket, BucketError, Created};
use crate::checkpoint::error::CheckpointError;

const MAGIC: [u8; 4] = *b"SFEP";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 72;
const LEVEL: i32 = 1;
/// Headers that are read at a time.
const AT_A_TIME: usize = 32;

/// What an object of the chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Epochs,
    Start,
    Seal,
}

/// The header of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) kind: Kind,
    pub(crate) lineage: u64,
    pub(crate) sequence: u64,
    pub(crate) attempt: u64,
    pub(crate) token: u64,
    pub(crate) after_epoch: u64,
    pub(crate) epoch: u64,
}

/// The folder of a history's chain.
pub(crate) fn folder(lineage: u64) -> String {
    format!("epochs/{lineage:016x}/")
}

/// The name of an object of the chain.
pub(crate) fn name(lineage: u64, sequence: u64) -> String {
    format!("epochs/{lineage:016x}/{sequence:020}")
}

impl Link {
    /// The object's bytes; `records` are the bodies of its epochs, each behind its length.
    pub(crate) fn encode(&self, records: &[u8]) -> Result<Bytes, CheckpointError> {
        let packed = zstd::bulk::compress(records, LEVEL)
            .map_err(|error| CheckpointError::Compression(error.to_string()))?;
        let kind: u16 = match self.kind {
            Kind::Epochs => 1,
            Kind::Start => 2,
            Kind::Seal => 3,
        };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + packed.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        let numbers = [
            self.lineage,
            self.sequence,
            self.attempt,
            self.token,
            self.after_epoch,
            self.epoch,
            records.len() as u64,
        ];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = checksum(&bytes, &packed);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&packed);
        Ok(bytes.into())
    }

    /// Reads the header alone, and believes it.
    fn peek(name: &str, head: &[u8]) -> Result<Self, CheckpointError> {
        let damaged = |problem| damaged(name, problem);
        if head.len() < HEADER_BYTES {
            return Err(damaged(format!(
                "it has {} bytes, and its header alone {HEADER_BYTES}",
                head.len()
            )));
        }
        if !head.starts_with(&MAGIC) {
            return Err(damaged("it does not begin with `SFEP`".to_owned()));
        }
        let number = |at| number(head, at);
        let version = number(4) & 0xffff;
        if version != u64::from(VERSION) {
            return Err(CheckpointError::Version {
                object: name.to_owned(),
                version,
            });
        }
        let kind = match number(6) as u16 {
            1 => Kind::Epochs,
            2 => Kind::Start,
            3 => Kind::Seal,
            other => return Err(damaged(format!("it is of kind {other}"))),
        };
        Ok(Self {
            kind,
            lineage: number(8),
            sequence: number(16),
            attempt: number(24),
            token: number(32),
            after_epoch: number(40),
            epoch: number(48),
        })
    }

    /// Reads an object: its header, and the records as they were given.
    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<(Self, Vec<u8>), CheckpointError> {
        let damaged = |problem| damaged(name, problem);
        let (head, packed) = bytes.split_at_checked(HEADER_BYTES).unwrap_or_default();
        let number = |at| number(head, at);
        // First, so that damage is not taken for another version.
        let computed = checksum(head.get(..64).unwrap_or_default(), packed);
        if head.starts_with(&MAGIC) && computed != number(64) {
            return Err(damaged(format!(
                "it states the checksum {:016x}, and its bytes give {computed:016x}",
                number(64)
            )));
        }
        let link = Self::peek(name, bytes)?;
        let length = usize::try_from(number(56)).map_err(|error| damaged(error.to_string()))?;
        let records =
            zstd::stream::decode_all(packed).map_err(|error| damaged(error.to_string()))?;
        if records.len() != length {
            return Err(damaged(format!(
                "it holds {} bytes of records, and states {length}",
                records.len()
            )));
        }
        Ok((link, records))
    }
}

/// The number at an offset of a header.
fn number(head: &[u8], at: usize) -> u64 {
    let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

fn damaged(name: &str, problem: String) -> CheckpointError {
    CheckpointError::Damaged {
        object: name.to_owned(),
        problem,
    }
}

fn checksum(head: &[u8], packed: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(head);
    hasher.update(packed);
    hasher.digest()
}

/// Appends the body of a record.
pub(crate) fn push_record(records: &mut Vec<u8>, body: &[&[u8]]) {
    let length: usize = body.iter().map(|slice| slice.len()).sum();
    records.extend_from_slice(&(length as u64).to_le_bytes());
    for slice in body {
        records.extend_from_slice(slice);
    }
}

/// The bodies of an object's records, in order; ends early, with `None` as its last item, when the bytes are malformed.
pub(crate) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = bytes.split_first_chunk::<8>().and_then(|(length, rest)| {
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (record, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            Some(record)
        });
        if record.is_none() {
            bytes = &[];
        }
        Some(record)
    })
}

/// Where a chain ends, and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The objects with epochs that are still there, oldest first.
    pub(crate) epochs: Vec<Link>,
    /// The last object of all.
    pub(crate) last: Option<Link>,
}

impl Found {
    /// Reads the headers of a chain's objects, and its last one as a whole.
    pub(crate) async fn read(bucket: &Bucket, lineage: u64) -> Result<Self, CheckpointError> {
        let objects = bucket.list(&folder(lineage)).await?;
        let mut links = BTreeMap::new();
        for some in objects.chunks(AT_A_TIME) {
            let mut reads = JoinSet::new();
            for object in some {
                let (bucket, name) = (bucket.clone(), object.name.clone());
                let range = 0..object.bytes.min(HEADER_BYTES as u64);
                reads.spawn(async move { (bucket.get_range(&name, range).await, name) });
            }
            while let Some(read) = reads.join_next().await {
                match read.map_err(|error| CheckpointError::Upload(error.to_string()))? {
                    // One may be removed meanwhile, of those that a checkpoint has.
                    (Err(BucketError::Missing { .. }), _) => {}
                    (head, name) => {
                        let link = Link::peek(&name, &head?)?;
                        links.insert(link.sequence, link);
                    }
                }
            }
        }
        let mut found = Self::default();
        if let Some(object) = objects.last() {
            let bytes =
                bucket
                    .get(&object.name)
                    .await?
                    .ok_or_else(|| CheckpointError::Missing {
                        object: object.name.clone(),
                        checkpoint: "of the newest epochs".to_owned(),
                    })?;
            found.last = Some(Link::decode(&object.name, &bytes)?.0);
        }
        found.epochs = links
            .into_values()
            .filter(|link| link.kind == Kind::Epochs)
            .collect();
        Ok(found)
    }

    /// The place behind the last object.
    pub(crate) fn next(&self) -> u64 {
        self.last.map_or(1, |last| last.sequence + 1)
    }
}

/// Creates an object of a chain; false when there is another one in its place.
pub(crate) async fn create(
    bucket: &Bucket,
    link: &Link,
    records: &[u8],
) -> Result<bool, CheckpointError> {
    let bytes = link.encode(records)?;
    let created = bucket
        .create(&name(link.lineage, link.sequence), bytes)
        .await?;
    Ok(matches!(created, Created::Done))
}

/// An error when there is another object in the place of `link`.
pub(crate) async fn refuse_taken(bucket: &Bucket, link: &Link) -> Result<(), CheckpointError> {
    let name = name(link.lineage, link.sequence);
    match bucket.get(&name).await? {
        Some(bytes) => Err(superseded(bucket, link, Some(&bytes))),
        None => Ok(()),
    }
}

/// What a process is told whose place is taken, by what lies there as far as it can be read.
pub(crate) fn superseded(bucket: &Bucket, link: &Link, there: Option<&[u8]>) -> CheckpointError {
    let name = name(link.lineage, link.sequence);
    let other = there.and_then(|bytes| Link::decode(&name, bytes).ok());
    CheckpointError::Superseded {
        url: bucket.url().to_owned(),
        after_epoch: link.after_epoch,
        object: name,
        attempt: other.map_or(0, |(other, _)| other.attempt),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link() -> impl Strategy<Value = Link> {
        let kind = prop_oneof![Just(Kind::Epochs), Just(Kind::Start), Just(Kind::Seal)];
        (kind, any::<[u64; 6]>()).prop_map(|(kind, numbers)| Link {
            kind,
            lineage: numbers[0],
            sequence: numbers[1],
            attempt: numbers[2],
            token: numbers[3],
            after_epoch: numbers[4],
            epoch: numbers[5],
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(link in link(), bodies in prop::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let mut bytes = Vec::new();
            for body in &bodies {
                let (one, other) = body.split_at(body.len() / 2);
                push_record(&mut bytes, &[one, other]);
            }
            let object = link.encode(&bytes).unwrap();
            let (read, found) = Link::decode("it", &object).unwrap();
            prop_assert_eq!(read, link);
            let found: Vec<Vec<u8>> = records(&found).map(|record| record.unwrap().to_vec()).collect();
            prop_assert_eq!(found, bodies);
        }

        #[test]
        fn any_changed_bit_is_seen(link in link(), body in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut object = link.encode(&body).unwrap().to_vec();
            let at = at.index(object.len());
            object[at] ^= 1 << bit;
            prop_assert!(Link::decode("it", &object).is_err());
        }

        #[test]
        fn any_bytes_are_survived(bytes in any::<Vec<u8>>()) {
            let _ = Link::decode("it", &bytes);
            let _ = records(&bytes).count();
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let link = Link {
            kind: Kind::Start,
            lineage: 0x11,
            sequence: 0x22,
            attempt: 0x33,
            token: 0x44,
            after_epoch: 0x55,
            epoch: 0x66,
        };
        let object = link.encode(&[]).unwrap();
        let mut expected = b"SFEP\x01\x00\x02\x00".to_vec();
        for number in [0x11u64, 0x22, 0x33, 0x44, 0x55, 0x66, 0] {
            expected.extend(number.to_le_bytes());
        }
        assert_eq!(object[..64], expected);
        assert_eq!(
            name(0x11, 0x22),
            "epochs/0000000000000011/00000000000000000034"
        );
    }
}
