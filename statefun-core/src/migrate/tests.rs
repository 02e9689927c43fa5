use super::*;
use crate::engine::registry::Parts;
use crate::id::{Address, KeyGroups, TypeName};
use crate::sdk::state::push_row_header;
use crate::state::keys::address_key;
use crate::state::memory::MemoryStore;
use crate::state::{Row, StateStore};

/// Rows that belong to nothing that anybody knows, and one whose key is none.
fn strange_rows(count: u64) -> MemoryStore {
    let function = TypeName::parse("strange/function").unwrap();
    let row = |n: u64| {
        let address = Address::new(function, format!("id-{n}").as_str());
        let mut key = address_key(Space::State, KeyGroups::default(), &address);
        key.extend_from_slice(&7u32.to_be_bytes());
        let mut value = Vec::new();
        push_row_header(&mut value, 1, 0);
        (key, value)
    };
    let mut rows: Vec<Row> = (0..count).map(row).collect();
    rows.push((vec![Space::State as u8, 1], b"x".to_vec()));
    rows.sort();
    let store = MemoryStore::default();
    let mut changes = rows.iter().map(|(key, value)| (&key[..], Some(&value[..])));
    store.apply(1, &mut changes).unwrap();
    store
}

#[test]
fn rows_that_nobody_knows_are_counted_and_progress_is_told() {
    let registry = Registry::new(Parts::default()).unwrap();
    let catalog = Catalog::of(&registry, 1);
    let store = strange_rows(3 * PROGRESS_ROWS);
    let data = StoredData {
        store: &store,
        last_record: b"no record",
        undelivered: &BTreeMap::new(),
    };
    let mut told = Vec::new();
    let report = dry_run(&registry, &catalog, &data, &mut |progress| {
        told.push(progress);
    })
    .unwrap();
    let rows: Vec<u64> = told
        .iter()
        .map(|progress| progress.rows / PROGRESS_ROWS)
        .collect();
    assert_eq!(rows, [1, 2, 3, 3]);
    assert!(told.is_sorted_by_key(|progress| progress.key_groups));
    let last = told.last().unwrap();
    assert_eq!(
        (last.rows, last.key_groups),
        (3 * PROGRESS_ROWS + 1, last.of_key_groups)
    );

    let function = &report.functions[0];
    assert!(function.name.starts_with("function number 0x"), "{report}");
    assert_eq!(function.addresses, 3 * PROGRESS_ROWS);
    let state = &function.states[0];
    assert_eq!(
        (state.name.as_str(), state.version),
        ("state number 0x00000007", None)
    );
    assert_eq!(
        (state.rows, state.unchecked),
        (3 * PROGRESS_ROWS, 3 * PROGRESS_ROWS)
    );
    assert_eq!(report.refused, ["1 rows have malformed keys"]);
}

#[test]
fn reports_stay_small_however_much_fails() {
    let mut state = StateReport::default();
    let mut messages = MessageReport::default();
    for n in 0..10_000 {
        state.fail(&format!("id-{n}"), format!("reason {n}"), true);
        messages.fail("a/Message", format!("reason {n}"));
    }
    assert_eq!((state.failing, state.failing_addresses), (10_000, 10_000));
    assert_eq!((state.failures.len(), state.reasons.len()), (10, 51));
    assert_eq!(state.reasons.values().sum::<u64>(), 10_000);
    assert_eq!(messages.failures.len(), 51);
    let counted: u64 = messages.failures.iter().map(|failure| failure.count).sum();
    assert_eq!((counted, messages.failing), (10_000, 10_000));
}
