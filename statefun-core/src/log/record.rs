//! Framing: a record's header, and what is wrong with bytes that are not one. The layout is told in `FORMAT.md`.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

/// Records begin at multiples of this, in bytes: the unit that a device writes as a whole.
pub(super) const SECTOR: u64 = 512;
/// The length of a header in bytes.
pub(super) const HEADER_BYTES: usize = 72;
pub(super) const MAGIC: [u8; 4] = *b"SFEL";
/// The format's version.
pub(super) const VERSION: u16 = 1;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A start of the process: what came before is final. Its epoch is the last one before it.
    Attempt,
    /// An epoch.
    Epoch,
}

impl Kind {
    fn code(self) -> u16 {
        match self {
            Self::Attempt => 1,
            Self::Epoch => 2,
        }
    }

    fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Attempt),
            2 => Some(Self::Epoch),
            _ => None,
        }
    }
}

/// A record's header without its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) body_bytes: u64,
    /// The segment that it was written into: a recycled one holds records of its former number.
    pub(super) segment: u64,
    /// Where it begins in its segment, in bytes.
    pub(super) offset: u64,
    pub(super) lineage: u64,
    pub(super) attempt: u64,
    pub(super) epoch: u64,
    /// The checksum of the record before it; 0 for the first of all.
    pub(super) previous: u64,
}

/// A header as read: its fields and the checksum that it states. Only the place and the length have been looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealed {
    version: u16,
    kind: u16,
    fields: Header,
    stated: u64,
    bytes: [u8; HEADER_BYTES],
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    /// The segment ends.
    End,
    /// Zeros, as a segment is prepared with.
    Zeros,
    /// They do not begin like a record.
    Magic([u8; 4]),
    /// A record of another place, as in a recycled segment.
    Place { segment: u64, offset: u64 },
    /// The segment is too short for it.
    Length { stated: u64, room: u64 },
    /// Header or body were changed, or not written completely.
    Checksum { stated: u64, computed: u64 },
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => write!(f, "the end of the segment"),
            Self::Zeros => write!(f, "zeros"),
            Self::Magic(bytes) => write!(
                f,
                "bytes that begin with {bytes:02x?} instead of {MAGIC:02x?}"
            ),
            Self::Place { segment, offset } => {
                write!(f, "a record of segment {segment}, byte {offset}")
            }
            Self::Length { stated, room } => {
                write!(
                    f,
                    "a record of {stated} bytes where there is room for {room}"
                )
            }
            Self::Checksum { stated, computed } => {
                write!(
                    f,
                    "a record with checksum {stated:016x} whose bytes give {computed:016x}"
                )
            }
        }
    }
}

/// Where the record after one that begins at `offset` begins.
pub(super) fn next_offset(offset: u64, body_bytes: u64) -> u64 {
    (offset + HEADER_BYTES as u64)
        .saturating_add(body_bytes)
        .saturating_add(SECTOR - 1)
        & !(SECTOR - 1)
}

impl Header {
    fn put(&self, version: u16, kind: u16) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let numbers = [
            self.body_bytes,
            self.segment,
            self.offset,
            self.lineage,
            self.attempt,
            self.epoch,
            self.previous,
        ];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&version.to_le_bytes());
        bytes[6..8].copy_from_slice(&kind.to_le_bytes());
        for (place, number) in bytes[8..64].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The header's bytes with the checksum over it and the body, and that checksum.
    pub(super) fn seal(&self, hasher: &mut Xxh3, body: &[&[u8]]) -> ([u8; HEADER_BYTES], u64) {
        let mut bytes = self.put(VERSION, self.kind.code());
        hasher.reset();
        hasher.update(&bytes[..64]);
        for part in body {
            hasher.update(part);
        }
        let checksum = hasher.digest();
        bytes[64..].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }
}

impl Sealed {
    /// Reads a header that begins at `offset` of a segment with `segment_bytes`. It can be trusted after [`Sealed::verify`].
    pub(super) fn read(
        bytes: &[u8; HEADER_BYTES],
        segment: u64,
        offset: u64,
        segment_bytes: u64,
    ) -> Result<Self, Defect> {
        if bytes[..4] != MAGIC {
            if bytes.iter().all(|byte| *byte == 0) {
                return Err(Defect::Zeros);
            }
            return Err(Defect::Magic([bytes[0], bytes[1], bytes[2], bytes[3]]));
        }
        let mut numbers = [0; 8];
        for (number, place) in numbers.iter_mut().zip(bytes[8..].chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(place);
            *number = u64::from_le_bytes(word);
        }
        let [
            body_bytes,
            found_segment,
            found_offset,
            lineage,
            attempt,
            epoch,
            previous,
            stated,
        ] = numbers;
        if (found_segment, found_offset) != (segment, offset) {
            return Err(Defect::Place {
                segment: found_segment,
                offset: found_offset,
            });
        }
        let room = segment_bytes.saturating_sub(offset + HEADER_BYTES as u64);
        if body_bytes > room {
            return Err(Defect::Length {
                stated: body_bytes,
                room,
            });
        }
        Ok(Self {
            version: u16::from_le_bytes([bytes[4], bytes[5]]),
            kind: u16::from_le_bytes([bytes[6], bytes[7]]),
            fields: Header {
                // Not looked at before the checksum was.
                kind: Kind::Epoch,
                body_bytes,
                segment,
                offset,
                lineage,
                attempt,
                epoch,
                previous,
            },
            stated,
            bytes: *bytes,
        })
    }

    /// The body's length in bytes.
    pub(super) fn body_bytes(&self) -> u64 {
        self.fields.body_bytes
    }

    /// The checksum that the header states.
    pub(super) fn checksum(&self) -> u64 {
        self.stated
    }

    /// Whether the body, hashed by `update`, belongs to the header and both are as they were written.
    pub(super) fn verify(
        &self,
        hasher: &mut Xxh3,
        update: impl FnOnce(&mut Xxh3),
    ) -> Result<(), Defect> {
        hasher.reset();
        hasher.update(&self.bytes[..64]);
        update(hasher);
        let computed = hasher.digest();
        if computed == self.stated {
            Ok(())
        } else {
            Err(Defect::Checksum {
                stated: self.stated,
                computed,
            })
        }
    }

    /// The fields of a record that was verified; an error holds the version that is not understood.
    pub(super) fn header(&self) -> Result<Header, u16> {
        // An unknown kind can only come from a version that should have had another number.
        match Kind::from_code(self.kind) {
            Some(kind) if self.version == VERSION => Ok(Header {
                kind,
                ..self.fields
            }),
            _ => Err(self.version),
        }
    }

    /// The lineage that a verified record belongs to.
    pub(super) fn lineage(&self) -> u64 {
        self.fields.lineage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> impl Strategy<Value = Header> {
        (any::<bool>(), any::<[u64; 5]>(), 0_u64..1 << 40).prop_map(|(epoch, numbers, sector)| {
            Header {
                kind: if epoch { Kind::Epoch } else { Kind::Attempt },
                body_bytes: 0,
                segment: numbers[0],
                offset: sector * SECTOR,
                lineage: numbers[1],
                attempt: numbers[2],
                epoch: numbers[3],
                previous: numbers[4],
            }
        })
    }

    fn read_back(
        bytes: &[u8; HEADER_BYTES],
        of: &Header,
        body: &[u8],
    ) -> Result<Result<Header, u16>, Defect> {
        let room = of.offset + HEADER_BYTES as u64 + 1_000;
        let sealed = Sealed::read(bytes, of.segment, of.offset, room)?;
        sealed.verify(&mut Xxh3::new(), |hasher| hasher.update(body))?;
        Ok(sealed.header())
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_read_back(mut header in header(), parts in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let body = parts.concat();
            header.body_bytes = body.len() as u64;
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let (bytes, checksum) = header.seal(&mut Xxh3::new(), &slices);
            prop_assert_eq!(read_back(&bytes, &header, &body), Ok(Ok(header)));
            prop_assert_eq!(bytes[64..].to_vec(), checksum.to_le_bytes().to_vec());
            // However the body is cut into parts.
            prop_assert_eq!(header.seal(&mut Xxh3::new(), &[&body]), (bytes, checksum));
        }

        #[test]
        fn any_changed_bit_is_seen(mut header in header(), mut body in any::<Vec<u8>>(), place in any::<proptest::sample::Index>(), bit in 0..8_u32) {
            header.body_bytes = body.len() as u64;
            let (mut bytes, _) = header.seal(&mut Xxh3::new(), &[&body]);
            let place = place.index(HEADER_BYTES + body.len());
            if place < HEADER_BYTES {
                bytes[place] ^= 1_u8 << bit;
            } else {
                body[place - HEADER_BYTES] ^= 1_u8 << bit;
            }
            prop_assert!(read_back(&bytes, &header, &body).is_err());
        }

        #[test]
        fn any_bytes_are_survived(bytes in any::<[u8; 68]>(), segment in any::<u64>(), offset in 0_u64..1 << 40, room in any::<u64>()) {
            let mut all = [0; HEADER_BYTES];
            all[..4].copy_from_slice(&MAGIC);
            all[4..].copy_from_slice(&bytes);
            let _ = Sealed::read(&all, segment, offset, room);
            all[16..24].copy_from_slice(&segment.to_le_bytes());
            all[24..32].copy_from_slice(&offset.to_le_bytes());
            if let Ok(sealed) = Sealed::read(&all, segment, offset, room) {
                prop_assert!(sealed.body_bytes() <= room);
                prop_assert!(sealed.verify(&mut Xxh3::new(), |_| ()).is_err());
            }
        }

        #[test]
        fn the_next_record_begins_behind_this_one(sector in 0_u64..1 << 40, body in 0_u64..1 << 40) {
            let offset = sector * SECTOR;
            let next = next_offset(offset, body);
            prop_assert_eq!(next % SECTOR, 0);
            let end = offset + HEADER_BYTES as u64 + body;
            prop_assert!(end <= next && next < end + SECTOR);
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let header = Header {
            kind: Kind::Epoch,
            body_bytes: 3,
            segment: 0x11,
            offset: 0x400,
            lineage: 0x33,
            attempt: 0x44,
            epoch: 0x55,
            previous: 0x66,
        };
        let (bytes, checksum) = header.seal(&mut Xxh3::new(), &[b"abc"]);
        let mut expected = b"SFEL\x01\x00\x02\x00".to_vec();
        for number in [3_u64, 0x11, 0x400, 0x33, 0x44, 0x55, 0x66] {
            expected.extend(number.to_le_bytes());
        }
        assert_eq!(bytes[..64], expected);
        expected.extend(b"abc");
        assert_eq!(checksum, xxhash_rust::xxh3::xxh3_64(&expected));
        // A saved value: the format must not change without a new version.
        assert_eq!(checksum, SAVED_CHECKSUM);
    }

    const SAVED_CHECKSUM: u64 = 2_059_466_023_940_244_139;

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let header = Header {
            kind: Kind::Epoch,
            body_bytes: 0,
            segment: 1,
            offset: 0,
            lineage: 3,
            attempt: 4,
            epoch: 5,
            previous: 6,
        };
        let mut bytes = header.put(VERSION + 1, 77);
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..64]);
        bytes[64..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(read_back(&bytes, &header, b""), Ok(Err(VERSION + 1)));
    }

    #[test]
    fn a_length_beyond_the_segment_is_refused_before_anything_is_read() {
        for body_bytes in [1_001, u64::MAX, u64::MAX - 71] {
            let header = Header {
                kind: Kind::Epoch,
                body_bytes,
                segment: 1,
                offset: 512,
                lineage: 3,
                attempt: 4,
                epoch: 5,
                previous: 6,
            };
            let (bytes, _) = header.seal(&mut Xxh3::new(), &[]);
            assert_eq!(
                read_back(&bytes, &header, b""),
                Err(Defect::Length {
                    stated: body_bytes,
                    room: 1_000
                })
            );
        }
    }
}
