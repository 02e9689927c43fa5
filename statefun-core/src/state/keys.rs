//! Row keys: `space (u8) · key group (u16 BE) · function type id (u32 BE) · id, escaped · …`.
//!
//! The space comes first, so that all timers, or all waiting messages, of a range of key groups lie together.
//! Numbers are big-endian and ids are escaped so that the order of keys is the order of their components; the number of a
//! retired space is never used again.

use crate::id::{Address, FunctionTypeId, KeyGroup, KeyGroups};

/// What a row is about: the first byte of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// Of the store itself: the marker of the last applied epoch, sink positions.
    Store = 0x01,
    /// Persisted states.
    State = 0x10,
    /// Messages to be sent later, and wake-ups, by time.
    Timer = 0x20,
    /// Cancellation tokens: which timer they stand for.
    Token = 0x21,
    /// Addresses that are retrying or parked, and why.
    Waiting = 0x30,
    /// The messages that wait at them, in order.
    Queue = 0x31,
    /// Operations under way, as the message that says `Unknown`.
    Operation = 0x40,
    /// Source positions.
    Source = 0x50,
    /// Messages that could not be delivered.
    DeadLetter = 0x60,
}

impl Space {
    /// All spaces whose rows belong to key groups.
    pub const OWNED: [Self; 8] = [
        Self::State,
        Self::Timer,
        Self::Token,
        Self::Waiting,
        Self::Queue,
        Self::Operation,
        Self::Source,
        Self::DeadLetter,
    ];
}

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 0x01;

/// Appends text so that its end is marked and the order of the encodings is that of the texts.
pub fn push_escaped(key: &mut Vec<u8>, text: &[u8]) {
    if text.contains(&ESCAPE) {
        for byte in text {
            key.push(*byte);
            if *byte == ESCAPE {
                key.push(ESCAPED_ZERO);
            }
        }
    } else {
        key.extend_from_slice(text);
    }
    key.extend_from_slice(&[ESCAPE, END]);
}

/// Reads what [`push_escaped`] wrote from the front of `key`, and moves `key` behind it; none when it is malformed.
pub fn take_escaped(key: &mut &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let (first, rest) = key.split_first()?;
        if *first != ESCAPE {
            text.push(*first);
            *key = rest;
            continue;
        }
        let (second, rest) = rest.split_first()?;
        *key = rest;
        match *second {
            END => return Some(text),
            ESCAPED_ZERO => text.push(ESCAPE),
            _ => return None,
        }
    }
}

/// The key of a space and key group: what all their rows begin with.
pub fn group_key(space: Space, group: KeyGroup) -> Vec<u8> {
    let [high, low] = group.to_be_bytes();
    vec![space as u8, high, low]
}

/// Appends the prefix of all rows that an address has in a space.
pub fn push_address(key: &mut Vec<u8>, space: Space, groups: KeyGroups, address: &Address) {
    key.push(space as u8);
    key.extend_from_slice(&address.key_group(groups).to_be_bytes());
    key.extend_from_slice(&address.function().function_type_id().0.to_be_bytes());
    push_escaped(key, address.id().as_bytes());
}

/// The prefix of all rows that an address has in a space.
pub fn address_key(space: Space, groups: KeyGroups, address: &Address) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + address.id().len() + 8);
    push_address(&mut key, space, groups, address);
    key
}

/// The parts of a key that begins with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressKey<'a> {
    /// The first byte.
    pub space: u8,
    /// The key group.
    pub group: KeyGroup,
    /// The function type.
    pub function: FunctionTypeId,
    /// The id.
    pub id: String,
    /// What follows the id.
    pub rest: &'a [u8],
}

/// Takes a key apart that [`push_address`] began; none when it is malformed.
pub fn parse_address_key(key: &[u8]) -> Option<AddressKey<'_>> {
    let (space, key) = key.split_first()?;
    let (group, key) = key.split_first_chunk::<2>()?;
    let (function, mut key) = key.split_first_chunk::<4>()?;
    let id = String::from_utf8(take_escaped(&mut key)?).ok()?;
    Some(AddressKey {
        space: *space,
        group: u16::from_be_bytes(*group),
        function: FunctionTypeId(u32::from_be_bytes(*function)),
        id,
        rest: key,
    })
}

/// The first key behind all keys that begin with `prefix`; empty when there is none.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return end;
        }
        end.pop();
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::TypeName;

    proptest! {
        #[test]
        fn escaped_text_keeps_its_order_and_comes_back(a: Vec<u8>, b: Vec<u8>, tail: Vec<u8>) {
            let (mut x, mut y) = (vec![], vec![]);
            push_escaped(&mut x, &a);
            push_escaped(&mut y, &b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            if a != b {
                prop_assert!(!y.starts_with(&x), "one address' rows must not lie under another's prefix");
            }
            x.extend_from_slice(&tail);
            let mut rest = &x[..];
            prop_assert_eq!(take_escaped(&mut rest), Some(a));
            prop_assert_eq!(rest, &tail[..]);
        }

        #[test]
        fn an_address_key_comes_back(id: String, tail: Vec<u8>) {
            let groups = KeyGroups::default();
            let address = Address::new(TypeName::parse("test/key").unwrap(), id.as_str());
            let mut key = address_key(Space::State, groups, &address);
            key.extend_from_slice(&tail);
            let parsed = parse_address_key(&key).unwrap();
            prop_assert_eq!(parsed.group, address.key_group(groups));
            prop_assert_eq!(parsed.function, address.function().function_type_id());
            prop_assert_eq!(parsed.id, id);
            prop_assert_eq!(parsed.rest, &tail[..]);
        }

        #[test]
        fn malformed_keys_are_refused_without_a_panic(key: Vec<u8>) {
            let _ = parse_address_key(&key);
        }

        #[test]
        fn the_end_of_a_prefix_is_behind_all_its_keys(prefix: Vec<u8>, tail: Vec<u8>) {
            let end = prefix_end(&prefix);
            let key = [prefix.clone(), tail].concat();
            prop_assert!(end.is_empty() || key < end);
            prop_assert!(end.is_empty() || !end.starts_with(&prefix) || prefix.is_empty());
        }
    }
}
