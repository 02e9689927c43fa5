//! What can be wrong with a run, in words for the operator.

use std::error::Error;

/// What a [`Fetch`](super::Fetch) or a [`ReadAt`](super::ReadAt) failed with.
pub type ReadFailure = Box<dyn Error + Send + Sync>;

/// An error of reading or writing runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Bytes of an object could not be had.
    #[error("cannot read {bytes} bytes at byte {offset} of {name}: {source}")]
    Read {
        /// The object.
        name: String,
        /// Where the bytes begin.
        offset: u64,
        /// How many were wanted.
        bytes: u64,
        /// Why.
        source: ReadFailure,
    },
    /// What was read is not what was written.
    #[error(
        "{name} is damaged at byte {offset}: expected {expected}, found {found}; put the object back from a copy, or use \
         another checkpoint"
    )]
    Damaged {
        /// The object.
        name: String,
        /// Where the damage is, in bytes.
        offset: u64,
        /// What had to be there.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The object was written by a version of the program that this one does not understand.
    #[error(
        "{name} has format version {found}, and this program reads version {supported}; run the version that wrote it, or a \
         newer one"
    )]
    Version {
        /// The object.
        name: String,
        /// Its version.
        found: u16,
        /// The version that this program writes.
        supported: u16,
    },
    /// A key was given to a writer that is not behind the one before. Nothing was written of it.
    #[error("rows of a run must come in the order of their keys, each once: {} came after {}", shown(.key), shown(.last))]
    Order {
        /// The key before.
        last: Vec<u8>,
        /// The key given.
        key: Vec<u8>,
    },
    /// A key or a value is longer than the format allows. Nothing was written of it.
    #[error(
        "a key or a value of {bytes} bytes is longer than the {} bytes that a run can hold",
        u32::MAX
    )]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The parts of a run are not in the order of their keys.
    #[error(
        "the parts of a run overlap or are out of order: {name} begins before the end of the part before it"
    )]
    Parts {
        /// The part that begins too early.
        name: String,
    },
    /// More was asked for after an error.
    #[error("{name} gave an error before, so that its rows are not complete")]
    Broken {
        /// The object or the run.
        name: String,
    },
}

/// A key in a message: all of it as hexadecimal digits, or its beginning.
fn shown(key: &[u8]) -> String {
    const SHOWN: usize = 32;
    let mut text = super::summary::hex(key.get(..SHOWN).unwrap_or(key));
    if key.len() > SHOWN {
        text.push('…');
    }
    text
}

/// What is wrong at an offset, before anyone has said of which object.
#[derive(Debug)]
pub(super) enum Defect {
    Damaged {
        offset: u64,
        expected: String,
        found: String,
    },
    Version {
        found: u16,
    },
}

impl Defect {
    pub(super) fn new(offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Damaged {
            offset,
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(super) fn checksum(offset: u64, what: &str, stated: u64, computed: u64) -> Self {
        Self::new(
            offset,
            format!("{what} with checksum {stated:016x}"),
            format!("bytes with checksum {computed:016x}"),
        )
    }

    /// The error, now that the object is known.
    pub(super) fn of(self, name: &str) -> RunError {
        let name = name.to_owned();
        match self {
            Self::Damaged {
                offset,
                expected,
                found,
            } => RunError::Damaged {
                name,
                offset,
                expected,
                found,
            },
            Self::Version { found } => RunError::Version {
                name,
                found,
                supported: super::VERSION,
            },
        }
    }
}
