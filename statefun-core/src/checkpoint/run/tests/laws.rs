//! What holds whatever the rows are.

use proptest::prelude::*;

use super::super::{InMemory, Merge, PartReader, PartSummary};
use super::*;

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few bytes, so that keys share beginnings and are beginnings of others.
    prop::collection::vec(prop::sample::select(vec![0, 1, 7, 255]), 0..6)
}

fn rows() -> impl Strategy<Value = Model> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0usize..400).prop_map(|(byte, count)| vec![byte; count]),
    ];
    prop::collection::btree_map(key(), prop::option::of(value), 0..120)
}

proptest! {
    #[test]
    fn a_run_comes_back_in_parts_and_in_streams(
        rows in rows(),
        part_bytes in 1usize..3_000,
        block_bytes in 1usize..500,
        start in key(),
        end in key(),
        window_bytes in 1usize..700,
    ) {
        let parts = write(&rows, part_bytes, block_bytes);
        prop_assert_eq!(parts.iter().map(|part| part.summary.rows).sum::<u64>(), rows.len() as u64);
        let mut by_part = Model::new();
        let mut found = Model::new();
        for part in &parts {
            let json = serde_json::to_string(&part.summary).unwrap();
            prop_assert_eq!(&serde_json::from_str::<PartSummary>(&json).unwrap(), &part.summary);
            let reader = PartReader::open(InMemory::new("a part", part.bytes.clone())).unwrap();
            prop_assert_eq!(&reader.verify().unwrap(), &part.summary);
            by_part.extend(collect(&mut reader.rows(&[], &[])).unwrap());
            found.extend(collect(&mut reader.rows(&start, &end)).unwrap());
        }
        prop_assert_eq!(&by_part, &rows);
        let expected = range(&rows, &start, &end);
        prop_assert_eq!(&found, &expected);
        let whole = collect(&mut stream(&parts, &[], &[], window_bytes)).unwrap();
        prop_assert_eq!(&whole, &rows);
        let some = collect(&mut stream(&parts, &start, &end, window_bytes)).unwrap();
        prop_assert_eq!(&some, &expected);
    }

    #[test]
    fn a_merge_gives_the_newest_row_of_each_key(
        runs in prop::collection::vec((rows(), any::<bool>()), 0..6),
        without_deletes: bool,
    ) {
        // A filtered stream counts for keys with an even number of bytes.
        let counts = |key: &[u8]| key.len() % 2 == 0;
        let mut expected: BTreeMap<Vec<u8>, (usize, Option<Vec<u8>>)> = BTreeMap::new();
        let mut merge = Merge::new();
        for (number, (rows, filtered)) in runs.iter().enumerate() {
            let rows_of_run = stream(&write(rows, 900, 200), &[], &[], 300);
            merge = if *filtered {
                merge.with_filtered(rows_of_run, Box::new(counts))
            } else {
                merge.with(rows_of_run)
            };
            for (key, value) in rows {
                if !filtered || counts(key) {
                    expected.entry(key.clone()).or_insert_with(|| (number, value.clone()));
                }
            }
        }
        if without_deletes {
            merge = merge.without_deletes();
            expected.retain(|_, (_, value)| value.is_some());
        }
        let mut found = Vec::new();
        while merge.advance().unwrap() {
            let value = merge.value().map(<[u8]>::to_vec);
            found.push((merge.key().to_vec(), (merge.stream(), value)));
        }
        prop_assert!(!merge.advance().unwrap());
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn many_streams_are_merged() {
    let runs: Vec<Model> = (0..200u32)
        .map(|run| {
            let rows = (0..500u32).filter(|row| (row + run) % 7 < 3);
            rows.map(|row| (row.to_be_bytes().to_vec(), Some(run.to_be_bytes().to_vec())))
                .collect()
        })
        .collect();
    let mut merge = Merge::new();
    for rows in &runs {
        merge = merge.with(stream(&write(rows, 4_000, 600), &[], &[], 1_000));
    }
    let found = collect(&mut merge).unwrap();
    let mut expected = Model::new();
    for rows in runs.into_iter().rev() {
        expected.extend(rows);
    }
    assert_eq!(found, expected);
}

#[test]
fn rows_out_of_order_are_refused_and_the_rest_is_kept() {
    let mut writer = RunWriter::new(1 << 20);
    writer.push(b"b", Some(b"1")).unwrap();
    for key in [&b"b"[..], b"a", b""] {
        let refused = writer.push(key, None).unwrap_err();
        assert!(matches!(refused, RunError::Order { .. }), "{refused}");
    }
    writer.push(b"c", None).unwrap();
    let part = writer.finish().unwrap();
    assert_eq!((part.summary.rows, part.summary.deletes), (2, 1));
    let rows = collect(&mut stream(&[part], &[], &[], 99)).unwrap();
    assert_eq!(rows.len(), 2);
}

#[test]
fn order_is_kept_across_parts() {
    let mut writer = RunWriter::with_blocks(1, 1);
    writer.push(b"b", Some(b"1")).unwrap();
    // The part with `b` is complete now.
    assert!(writer.push(b"c", None).unwrap().is_some());
    assert!(writer.push(b"c", None).is_err());
    assert_eq!(writer.finish().unwrap().summary.first_key, b"c");
}

#[test]
fn a_long_row_is_a_block_of_its_own() {
    let long: Vec<u8> = (0..20_000_000u32).map(|n| (n / 1_000) as u8).collect();
    let rows: Model = [
        (b"a".to_vec(), Some(b"short".to_vec())),
        (b"b".to_vec(), Some(long)),
        (b"c".to_vec(), None),
    ]
    .into();
    let parts = write(&rows, 16 << 20, 96 << 10);
    assert_eq!(collect(&mut stream(&parts, &[], &[], 5_000)).unwrap(), rows);
    let reader = PartReader::open(InMemory::new("a part", parts[0].bytes.clone())).unwrap();
    assert_eq!(reader.verify().unwrap(), parts[0].summary);
}

#[test]
fn parts_that_overlap_are_refused() {
    let rows: Model = (0..9u8).map(|n| (vec![n], None)).collect();
    let (objects, mut run) = store(&write(&rows, 1, 1));
    run.swap(2, 3);
    let refused = RunStream::new(objects, run, &[], &[], 99).unwrap_err();
    assert!(matches!(refused, RunError::Parts { .. }), "{refused}");
}
