//! Whatever happens to the bytes, nothing is read that was not written.

use proptest::prelude::*;

use super::super::{InMemory, PartReader, PartSummary};
use super::*;

/// Rows in several blocks, compressed and not.
fn rows() -> Model {
    let mut random = Random(11);
    (0..36u8)
        .map(|n| {
            let value = match n % 4 {
                0 => None,
                1 | 2 => Some(vec![n; 30]),
                _ => Some((0..30).map(|_| random.next() as u8).collect()),
            };
            (vec![b' ', n / 8, n], value)
        })
        .collect()
}

fn read(bytes: Vec<u8>) -> Result<Model, RunError> {
    let reader = PartReader::open(InMemory::new("a part", bytes))?;
    collect(&mut reader.rows(&[], &[]))
}

fn read_stream(part: &Part, bytes: &[u8], end: &[u8]) -> Result<Model, RunError> {
    let damaged = Part {
        bytes: bytes.to_vec(),
        summary: part.summary.clone(),
    };
    collect(&mut stream(&[damaged], &[], end, 300))
}

#[test]
fn every_flipped_bit_is_noticed() {
    let rows = rows();
    let part = write(&rows, usize::MAX >> 1, 300).remove(0);
    let blocks_end = (part.summary.bytes - part.summary.tail_bytes) as usize;
    let end = [b' ', 3];
    let expected = range(&rows, &[], &end);
    for at in 0..part.bytes.len() {
        for bit in 0..8 {
            let mut bytes = part.bytes.clone();
            bytes[at] ^= 1 << bit;
            let error = read(bytes.clone()).expect_err("a flipped bit goes unnoticed");
            assert!(error.to_string().contains("a part"), "{error}");
            // What is not read may be damaged: the index of a part that is read as a whole, and blocks outside the range.
            let outcome = read_stream(&part, &bytes, &[]);
            assert!(outcome.is_err() || at >= blocks_end);
            assert!(outcome.is_err() || outcome.unwrap() == rows);
            if let Ok(found) = read_stream(&part, &bytes, &end) {
                assert_eq!(found, expected);
                assert!(at < blocks_end);
            }
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let part = write(&rows(), usize::MAX >> 1, 300).remove(0);
    for length in 0..part.bytes.len() {
        let bytes = &part.bytes[..length];
        assert!(read(bytes.to_vec()).is_err());
        assert!(read([bytes, &[0; 100]].concat()).is_err());
        let blocks_end = (part.summary.bytes - part.summary.tail_bytes) as usize;
        assert!(read_stream(&part, bytes, &[]).is_err() || length >= blocks_end);
        assert!(read_stream(&part, bytes, &[b' ', 3]).is_err());
    }
}

#[test]
fn a_part_under_the_name_of_another_is_noticed() {
    let rows = rows();
    let mut parts = write(&rows, 1, 300);
    assert!(parts.len() > 2);
    let bytes = parts[0].bytes.clone();
    parts[0].bytes = std::mem::replace(&mut parts[1].bytes, bytes);
    for end in [&[][..], &[b' ', 1]] {
        let error = collect(&mut stream(&parts, &[], end, 300)).unwrap_err();
        assert!(error.to_string().contains("0.run"), "{error}");
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut bytes = write(&rows(), 9_999, 300).remove(0).bytes;
    bytes[4] = 2;
    let error = read(bytes).unwrap_err();
    assert!(
        matches!(error, RunError::Version { found: 2, .. }),
        "{error}"
    );
}

fn fails_for_good(rows: &mut impl Rows) {
    let damaged = loop {
        match rows.advance() {
            Ok(true) => {}
            Ok(false) => panic!("it ends as if nothing were wrong"),
            Err(error) => break error,
        }
    };
    assert!(matches!(damaged, RunError::Damaged { .. }), "{damaged}");
    for _ in 0..2 {
        assert!(matches!(rows.advance(), Err(RunError::Broken { .. })));
    }
}

#[test]
fn after_an_error_there_are_only_errors() {
    let mut part = write(&rows(), 99_999, 300).remove(0);
    let middle = part.bytes.len() / 2;
    part.bytes[middle] ^= 1;
    let reader = PartReader::open(InMemory::new("a part", part.bytes.clone())).unwrap();
    fails_for_good(&mut reader.rows(&[], &[]));
    fails_for_good(&mut stream(&[part.clone()], &[], &[], 200));
    fails_for_good(&mut super::super::Merge::new().with(stream(&[part], &[], &[], 200)));
}

#[test]
fn a_missing_part_is_named() {
    let (_, run) = store(&write(&rows(), 1, 300));
    let mut stream = RunStream::new(Arc::new(Objects::new()), run, &[], &[], 99).unwrap();
    let error = stream.advance().unwrap_err().to_string();
    assert!(
        error.contains("0.run") && error.contains("no such object"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, header: bool) {
        let mut bytes = bytes;
        if header {
            bytes.splice(0..0, super::super::tail::HEADER);
            bytes.extend(super::super::tail::HEADER);
        }
        prop_assert!(read(bytes.clone()).is_err());
        let summary = PartSummary {
            rows: 1,
            deletes: 0,
            bytes: bytes.len() as u64,
            raw_bytes: 1,
            tail_bytes: 0,
            first_key: vec![],
            last_key: vec![1],
            checksum: 0,
        };
        let part = Part { bytes: bytes.clone(), summary };
        prop_assert!(collect(&mut stream(&[part], &[], &[], 7)).is_err());
    }

    /// A block that says of itself what is wrong, with a checksum that is right.
    #[test]
    fn wrong_blocks_are_survived(stored: Vec<u8>, raw: u64, rows: u32, codec in 0u8..3, small: bool) {
        use super::super::block::{BlockRows, checksum};

        let mut header = [0; 32];
        let raw = if small { raw % 100 } else { raw };
        header[8..16].copy_from_slice(&(stored.len() as u64).to_le_bytes());
        header[16..24].copy_from_slice(&raw.to_le_bytes());
        header[24..28].copy_from_slice(&rows.to_le_bytes());
        header[28] = codec;
        let sum = checksum(&header, &stored);
        header[..8].copy_from_slice(&sum.to_le_bytes());
        let mut block = BlockRows::new();
        if block.load(0, &header, &stored).is_ok() {
            while block.advance().is_ok_and(|more| more) {}
        }
    }
}
