//! What is known of a part without reading it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What is known of a part without reading it; it stands in the descriptor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartSummary {
    /// How many rows it has, deletes among them.
    pub rows: u64,
    /// How many of them are deletes.
    pub deletes: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// What its keys and values are together, in bytes, each key counted as a whole.
    pub raw_bytes: u64,
    /// What index and footer at its end take, in bytes.
    pub tail_bytes: u64,
    /// The key of its first row.
    #[serde(with = "hex_bytes")]
    pub first_key: Vec<u8>,
    /// The key of its last row.
    #[serde(with = "hex_bytes")]
    pub last_key: Vec<u8>,
    /// XXH3 (64 bits, no seed) over all its bytes.
    #[serde(with = "hex_number")]
    pub checksum: u64,
}

impl PartSummary {
    /// Whether the part may have rows from `start` on and before `end` (no end when it is empty).
    pub fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        self.last_key.as_slice() >= start && (end.is_empty() || self.first_key.as_slice() < end)
    }

    /// Whether all its rows are from `start` on and before `end` (no end when it is empty).
    pub fn is_within(&self, start: &[u8], end: &[u8]) -> bool {
        self.first_key.as_slice() >= start && (end.is_empty() || self.last_key.as_slice() < end)
    }
}

/// Bytes as hexadecimal digits.
pub(in crate::checkpoint) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes that hexadecimal digits stand for; none when they are none.
pub(in crate::checkpoint) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() % 2 != 0 {
        return None;
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some((digit(pair.first()?)? * 16 + digit(pair.get(1)?)?) as u8))
        .collect()
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        super::from_hex(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not bytes in hexadecimal digits")))
    }
}

mod hex_number {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{number:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = super::from_hex(&text).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        bytes
            .map(u64::from_be_bytes)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not 16 hexadecimal digits")))
    }
}
