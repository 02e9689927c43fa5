//! Reading MessagePack piece by piece.

/// The next piece.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i128),
    F32(f32),
    F64(f64),
    /// Text, which may not be UTF-8.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Ext(i8, &'a [u8]),
    /// So many values follow.
    Array(usize),
    /// So many pairs of values follow.
    Map(usize),
}

/// What is there is not MessagePack, or there is too little or too much of it.
pub(crate) type Malformed = String;

/// Reads from the front of bytes.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(format!(
                "it ends early: {len} bytes are missing of which {} are there",
                self.rest.len()
            )),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn number<const N: usize>(&mut self) -> Result<u64, Malformed> {
        let bytes: [u8; N] = self.array()?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn len<const N: usize>(&mut self) -> Result<usize, Malformed> {
        Ok(self.number::<N>()? as usize)
    }

    fn ext(&mut self, len: usize) -> Result<Token<'a>, Malformed> {
        let [kind] = self.array()?;
        Ok(Token::Ext(kind.cast_signed(), self.take(len)?))
    }

    /// The next piece; what an array or map holds follows by itself.
    pub(crate) fn token(&mut self) -> Result<Token<'a>, Malformed> {
        let [marker] = self.array()?;
        Ok(match marker {
            0x00..=0x7f => Token::Int(marker.into()),
            0x80..=0x8f => Token::Map((marker & 0x0f).into()),
            0x90..=0x9f => Token::Array((marker & 0x0f).into()),
            0xa0..=0xbf => Token::Text(self.take((marker & 0x1f).into())?),
            0xc0 => Token::Nil,
            0xc1 => return Err("0xc1 begins nothing in MessagePack".to_owned()),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 => {
                let len = self.len::<1>()?;
                Token::Bytes(self.take(len)?)
            }
            0xc5 => {
                let len = self.len::<2>()?;
                Token::Bytes(self.take(len)?)
            }
            0xc6 => {
                let len = self.len::<4>()?;
                Token::Bytes(self.take(len)?)
            }
            0xc7 => {
                let len = self.len::<1>()?;
                self.ext(len)?
            }
            0xc8 => {
                let len = self.len::<2>()?;
                self.ext(len)?
            }
            0xc9 => {
                let len = self.len::<4>()?;
                self.ext(len)?
            }
            0xca => Token::F32(f32::from_be_bytes(self.array()?)),
            0xcb => Token::F64(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Int(self.number::<1>()?.into()),
            0xcd => Token::Int(self.number::<2>()?.into()),
            0xce => Token::Int(self.number::<4>()?.into()),
            0xcf => Token::Int(self.number::<8>()?.into()),
            0xd0 => Token::Int(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Token::Int(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Token::Int(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Token::Int(i64::from_be_bytes(self.array()?).into()),
            0xd4 => self.ext(1)?,
            0xd5 => self.ext(2)?,
            0xd6 => self.ext(4)?,
            0xd7 => self.ext(8)?,
            0xd8 => self.ext(16)?,
            0xd9 => {
                let len = self.len::<1>()?;
                Token::Text(self.take(len)?)
            }
            0xda => {
                let len = self.len::<2>()?;
                Token::Text(self.take(len)?)
            }
            0xdb => {
                let len = self.len::<4>()?;
                Token::Text(self.take(len)?)
            }
            0xdc => Token::Array(self.len::<2>()?),
            0xdd => Token::Array(self.len::<4>()?),
            0xde => Token::Map(self.len::<2>()?),
            0xdf => Token::Map(self.len::<4>()?),
            0xe0..=0xff => Token::Int(marker.cast_signed().into()),
        })
    }

    /// Passes over a whole value, however deep, and returns its bytes.
    pub(crate) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let begin = self.rest;
        let mut open: u64 = 1;
        while open > 0 {
            open -= 1;
            open += match self.token()? {
                Token::Array(len) => len as u64,
                Token::Map(len) => 2 * len as u64,
                _ => 0,
            };
        }
        Ok(begin
            .get(..begin.len() - self.rest.len())
            .unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Reader::new(&bytes).value();
        }

        #[test]
        fn numbers_are_what_was_written(int: i64, uint: u64) {
            for (bytes, expected) in [
                (rmp_serde::to_vec(&int).unwrap(), i128::from(int)),
                (rmp_serde::to_vec(&uint).unwrap(), i128::from(uint)),
            ] {
                prop_assert_eq!(Reader::new(&bytes).token(), Ok(Token::Int(expected)));
            }
        }
    }
}
