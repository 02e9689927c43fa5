//! Keys of table entries: encodings whose order is the keys' order.

use crate::state::keys::{push_escaped, take_escaped};

/// A type that can be the key of a [`PersistedTable`](super::PersistedTable): entries come in the order of their keys.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a table",
    note = "keys are whole numbers, `bool`, `String`, `Vec<u8>`, timestamps, and tuples of these"
)]
pub trait TableKey: Clone + Eq + std::hash::Hash + Ord + 'static {
    /// Appends the encoding; comparing encodings compares keys, and none is a prefix of another's.
    fn encode_key(&self, out: &mut Vec<u8>);

    /// Reads a key from the front of `bytes` and moves `bytes` behind it; none when it is malformed.
    fn decode_key(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! unsigned {
    ($($type:ty),*) => {
        $(impl TableKey for $type {
            fn encode_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
                let (number, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_be_bytes(*number))
            }
        })*
    };
}
unsigned!(u8, u16, u32, u64, u128);

macro_rules! signed {
    ($($type:ty as $unsigned:ty),*) => {
        $(impl TableKey for $type {
            fn encode_key(&self, out: &mut Vec<u8>) {
                // Flipping the sign bit puts the negative numbers before the others.
                (self.cast_unsigned() ^ (1 << (<$unsigned>::BITS - 1))).encode_key(out);
            }
            fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
                let number = <$unsigned>::decode_key(bytes)?;
                Some((number ^ (1 << (<$unsigned>::BITS - 1))).cast_signed())
            }
        })*
    };
}
signed!(i8 as u8, i16 as u16, i32 as u32, i64 as u64, i128 as u128);

impl TableKey for bool {
    fn encode_key(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        match u8::decode_key(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl TableKey for String {
    fn encode_key(&self, out: &mut Vec<u8>) {
        push_escaped(out, self.as_bytes());
    }
    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(take_escaped(bytes)?).ok()
    }
}

impl TableKey for compact_str::CompactString {
    fn encode_key(&self, out: &mut Vec<u8>) {
        push_escaped(out, self.as_bytes());
    }
    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(take_escaped(bytes)?).ok()
    }
}

impl TableKey for Vec<u8> {
    fn encode_key(&self, out: &mut Vec<u8>) {
        push_escaped(out, self);
    }
    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        take_escaped(bytes)
    }
}

impl TableKey for crate::clock::Timestamp {
    fn encode_key(&self, out: &mut Vec<u8>) {
        self.0.encode_key(out);
    }
    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        u64::decode_key(bytes).map(Self)
    }
}

macro_rules! tuples {
    ($(($($arg:ident $index:tt),+))*) => {
        $(impl<$($arg: TableKey),+> TableKey for ($($arg,)+) {
            fn encode_key(&self, out: &mut Vec<u8>) {
                $(self.$index.encode_key(out);)+
            }
            fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($arg::decode_key(bytes)?,)+))
            }
        })*
    };
}
tuples! { (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) }

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agrees<K: TableKey + std::fmt::Debug>(a: &K, b: &K) -> Result<(), TestCaseError> {
        let (mut x, mut y) = (vec![], vec![]);
        a.encode_key(&mut x);
        b.encode_key(&mut y);
        prop_assert_eq!(x.cmp(&y), a.cmp(b));
        let mut rest = &x[..];
        let back = K::decode_key(&mut rest);
        prop_assert_eq!(back.as_ref(), Some(a));
        prop_assert!(rest.is_empty());
        Ok(())
    }

    proptest! {
        #[test]
        fn encodings_order_like_keys(
            a: (i64, String), b: (i64, String), c: (u8, bool, Vec<u8>), d: (u8, bool, Vec<u8>), e: i128, f: i128
        ) {
            agrees(&a, &b)?;
            agrees(&c, &d)?;
            agrees(&e, &f)?;
        }

        #[test]
        fn malformed_keys_are_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = <(String, i32, bool)>::decode_key(&mut &bytes[..]);
        }
    }
}
