//! A part that was written when the format was made.

use super::super::{InMemory, PartReader};
use super::*;

const FIXTURE: &[u8] = include_bytes!("part-v1.run");

fn rows() -> Model {
    let mut random = Random(5);
    let long: Vec<u8> = (0..700).map(|_| random.next() as u8).collect();
    (0..40u32)
        .map(|n| {
            let key = format!("\u{10}{:02}/player-{n:04}", n / 16).into_bytes();
            let value = match n % 5 {
                0 => None,
                1 => Some(Vec::new()),
                4 => Some((0..150).map(|_| random.next() as u8).collect()),
                _ => Some(format!("{{\"level\":{n},\"name\":\"somebody\"}}").into_bytes()),
            };
            (key, value)
        })
        // A block that does not shrink.
        .chain([(b"\x20".to_vec(), Some(long))])
        .collect()
}

/// Another version of zstd may compress in other ways; that the old part is read right is what counts.
#[test]
fn it_is_written_as_ever() {
    let part = write(&rows(), usize::MAX >> 1, 512).remove(0);
    assert!(part.bytes == FIXTURE);
}

#[test]
fn it_is_read_as_it_was_written() {
    let reader = PartReader::open(InMemory::new("part-v1.run", FIXTURE)).unwrap();
    assert_eq!(collect(&mut reader.rows(&[], &[])).unwrap(), rows());
    insta::assert_snapshot!(
        serde_json::to_string_pretty(&reader.verify().unwrap()).unwrap(),
        @r#"
    {
      "rows": 41,
      "deletes": 8,
      "bytes": 2825,
      "rawBytes": 2977,
      "tailBytes": 294,
      "firstKey": "1030302f706c617965722d30303030",
      "lastKey": "20",
      "checksum": "6f786ba882b71463"
    }
    "#
    );
}
