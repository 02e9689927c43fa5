//! What the application `everything` of the damage tests shows of an address: written there, read by the test.

use statefun_core::prelude::*;

/// All that can be seen of an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "all/Dump")]
pub struct Dump {
    /// A value.
    pub value: Vec<u64>,
    /// One that is absent now and then.
    pub cleared: Option<u64>,
    /// The entries of a table.
    pub table: Vec<(u64, u64)>,
    /// The elements of a buffer.
    pub buffer: Vec<u64>,
    /// The names in a registry.
    pub names: Vec<String>,
    /// A value in it.
    pub total: Option<u64>,
    /// The entries of a table in it.
    pub marks: Vec<(u64, u64)>,
    /// The elements of a buffer in it.
    pub steps: Vec<u64>,
    /// The operations that have ended, sorted.
    pub ended: Vec<u64>,
}
