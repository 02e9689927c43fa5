//! What stands in the bucket as JSON: the manifest, which is replaced, and a descriptor for each checkpoint, which is not.
//!
//! Both are meant to be read by people and by other programs; the room's page tells where they lie and what belongs to them.
//! A reader passes over fields that it does not know; a `version` that it does not know it refuses.

use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::checkpoint::run::PartSummary;
use crate::clock::Timestamp;
use crate::id::KeyGroups;
use crate::rand::Random;

/// The layout's version, of the manifest and of descriptors.
pub const VERSION: u32 = 1;
/// The name of the one object that is replaced.
pub const MANIFEST: &str = "manifest.json";

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Who may replace it.
    pub writer: Writer,
    /// How often it was replaced.
    pub sequence: u64,
    /// The checkpoints that are kept, oldest first.
    pub checkpoints: Vec<Entry>,
}

/// The process that may write: whoever replaces a manifest of another writer takes the bucket over, and the other stops when
/// it finds out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Writer {
    /// The history that it writes.
    #[serde(with = "hex64")]
    pub lineage: u64,
    /// Its start within the lineage.
    pub attempt: u64,
    /// A number that no other start has: two copies of a data directory have the same lineage, and may have the same attempt.
    #[serde(with = "hex64")]
    pub token: u64,
    /// Where it runs, for people.
    pub host: String,
    /// When it took over, in Unix ms.
    pub since_ms: u64,
}

/// A checkpoint in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// By what it is called: `EPOCH-LINEAGE`.
    pub id: String,
    /// Given by whoever made it. A checkpoint with a name is kept until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its history.
    #[serde(with = "hex64")]
    pub lineage: u64,
    /// The [`token`](Writer::token) of the start that made it.
    #[serde(with = "hex64")]
    pub start: u64,
    /// The epoch that it holds.
    pub epoch: u64,
    /// When it was made, in Unix ms.
    pub created_ms: u64,
    /// Its descriptor.
    pub object: String,
    /// XXH3 (64 bits) of the descriptor.
    #[serde(with = "hex64")]
    pub checksum: u64,
    /// Bytes of all objects that it consists of, its descriptor included. Checkpoints share most of them.
    pub bytes: u64,
    /// Bytes that were uploaded for it.
    pub uploaded_bytes: u64,
}

/// `checkpoints/….json`: all there is to know of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// [`VERSION`].
    pub version: u32,
    /// By what it is called.
    pub id: String,
    /// Its history.
    #[serde(with = "hex64")]
    pub lineage: u64,
    /// The start that made it.
    pub attempt: u64,
    /// The last epoch that it holds.
    pub epoch: u64,
    /// The core's clock at the end of that epoch, in Unix ms: no restart is before it.
    pub time_ms: u64,
    /// When it was made, in Unix ms.
    pub created_ms: u64,
    /// How addresses are spread.
    pub key_groups: KeyGroups,
    /// The rows of each key group as of an epoch; no two of them have a key group in common, and together they have all.
    pub bases: Vec<Base>,
    /// What has changed since, oldest first. Of the deltas that have a row, the newest counts; those that are not newer than the
    /// base of the row's key group do not count at all.
    pub deltas: Vec<Delta>,
    /// What is not in rows.
    pub tail: Tail,
    /// How far the sources were read; their positions are rows as well, and those count.
    pub sources: Vec<SourcePosition>,
    /// Functions, states, messages and their shapes, as in the data directory's `catalog.json`.
    pub catalog: Catalog,
}

/// The rows of consecutive key groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Base {
    /// The first key group that it counts for. Its parts may hold rows of others, which do not count any more.
    pub first_group: u16,
    /// The last key group that it counts for.
    pub last_group: u16,
    /// How many key groups its parts hold.
    pub written_groups: u16,
    /// The spaces (first bytes of keys) that have rows in it.
    pub spaces: Vec<u8>,
    /// The epoch of its rows.
    pub epoch: u64,
    /// Where the rows are, in the order of their keys.
    pub parts: Vec<Part>,
}

/// The rows that have changed between two epochs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delta {
    /// The epoch before it.
    pub after_epoch: u64,
    /// Its last epoch.
    pub epoch: u64,
    /// Where the rows are, in the order of their keys.
    pub parts: Vec<Part>,
}

/// An object with rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Its name.
    pub object: String,
    /// What is in it.
    #[serde(flatten)]
    pub summary: PartSummary,
}

/// An object of another kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Its name.
    pub object: String,
    /// Its length.
    pub bytes: u64,
    /// XXH3 (64 bits) of its bytes.
    #[serde(with = "hex64")]
    pub checksum: u64,
}

/// What of a cut is not in rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tail {
    /// How far each sink had accepted, as of the epoch.
    pub sinks: Vec<Sink>,
    /// The messages under way at the cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Object>,
    /// Output that a sink may not have accepted, oldest first.
    pub egress: Vec<Egress>,
}

/// How far a sink had accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sink {
    /// The egress.
    pub egress: String,
    /// The last epoch whose output it had accepted.
    pub through_epoch: u64,
    /// Its own account of it.
    #[serde(with = "bytes_as_text")]
    pub position: Vec<u8>,
}

/// The output of consecutive epochs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// The epoch before it.
    pub after_epoch: u64,
    /// Its last epoch.
    pub epoch: u64,
    /// Where it is.
    #[serde(flatten)]
    pub object: Object,
}

/// How far a source was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcePosition {
    /// The ingress.
    pub ingress: String,
    /// Its partition.
    pub partition: String,
    /// The position behind the last record taken in.
    #[serde(with = "bytes_as_text")]
    pub position: Vec<u8>,
}

impl Writer {
    /// A start of this process, with a token of its own.
    pub(crate) fn new(lineage: u64, attempt: u64, now: Timestamp) -> Self {
        let uname = rustix::system::uname();
        Self {
            lineage,
            attempt,
            token: Random::from_system().next_u64(),
            host: uname.nodename().to_string_lossy().into_owned(),
            since_ms: now.as_ms(),
        }
    }
}

impl Manifest {
    /// The newest checkpoint.
    pub fn latest(&self) -> Option<&Entry> {
        self.checkpoints.last()
    }

    /// A checkpoint by its id or name, or the newest by `latest`.
    pub fn find(&self, wanted: &str) -> Option<&Entry> {
        if wanted == "latest" {
            return self.latest();
        }
        let named = |entry: &&Entry| entry.name.as_deref() == Some(wanted);
        let by_name = self.checkpoints.iter().rev().find(named);
        by_name.or_else(|| self.checkpoints.iter().find(|entry| entry.id == wanted))
    }
}

impl Descriptor {
    /// By what a checkpoint is called.
    pub fn id(lineage: u64, epoch: u64) -> String {
        format!("{epoch}-{:08x}", lineage >> 32)
    }

    /// The names of all objects that it consists of, and their lengths; its own is not among them.
    pub fn objects(&self) -> impl Iterator<Item = (&str, u64)> {
        let parts = self.bases.iter().flat_map(|base| &base.parts);
        let parts = parts.chain(self.deltas.iter().flat_map(|delta| &delta.parts));
        let parts = parts.map(|part| (part.object.as_str(), part.summary.bytes));
        let egress = self.tail.egress.iter().map(|egress| &egress.object);
        let tail = self.tail.carried.iter().chain(egress);
        parts.chain(tail.map(|object| (object.object.as_str(), object.bytes)))
    }

    /// The base of a key group.
    pub fn base_of(&self, group: u16) -> Option<&Base> {
        self.bases
            .iter()
            .find(|base| (base.first_group..=base.last_group).contains(&group))
    }
}

impl Delta {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.summary.bytes).sum()
    }
}

impl Base {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.summary.bytes).sum()
    }

    /// What a key group takes of it, in bytes, roughly.
    pub fn group_bytes(&self) -> u64 {
        self.bytes() / u64::from(self.written_groups.max(1))
    }
}

/// Numbers that JSON's do not hold, as 16 hexadecimal digits.
pub(crate) mod hex64 {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:016x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(|_| {
            D::Error::custom(format!("`{text}` is not a number of 16 hexadecimal digits"))
        })
    }
}

/// Bytes that are mostly text: as text, or where they are not, as `hex:` and their digits.
mod bytes_as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::checkpoint::run::{from_hex, hex};

    const HEX: &str = "hex:";

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.starts_with(HEX) => serializer.serialize_str(text),
            _ => serializer.collect_str(&format_args!("{HEX}{}", hex(bytes))),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Some(digits) = text.strip_prefix(HEX) else {
            return Ok(text.into_bytes());
        };
        from_hex(digits).ok_or_else(|| {
            D::Error::custom("`hex:` is not followed by pairs of hexadecimal digits")
        })
    }
}
