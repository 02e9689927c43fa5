//! What differs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::shop::{LINES, NOW, Shop};
use crate::inspect::{ChangeKind, Event, FunctionDiff, StateChange, diff};

fn compare(before: &Shop, after: &Shop) -> (Vec<StateChange>, Vec<FunctionDiff>) {
    let (before, after) = (before.view(), after.view());
    let mut changes = Vec::new();
    let functions = diff(
        (before.catalog(), &mut before.state_rows(None, "").unwrap()),
        (after.catalog(), &mut after.state_rows(None, "").unwrap()),
        NOW,
        &mut |event| {
            if let Event::Item(change) = event {
                changes.push(change);
            }
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    (changes, functions)
}

fn lines(changes: &[StateChange]) -> Vec<String> {
    let line = |change| serde_json::to_string(change).unwrap();
    let mut lines: Vec<String> = changes.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn the_same_is_no_difference() {
    assert_eq!(
        compare(&Shop::of(LINES), &Shop::of(LINES)),
        (vec![], vec![])
    );
    assert_eq!(compare(&Shop::new(), &Shop::new()), (vec![], vec![]));
}

#[test]
fn every_kind_of_state_is_compared() {
    let before = Shop::of(LINES);
    let after = Shop::of(
        &LINES
            .replace(r#""total":5"#, r#""total":6"#)
            .replace(r#""apple""#, r#""pear""#)
            .replace(r#"["a","b","c"]"#, r#"["a","B","c"]"#)
            .replace("4600000", "4600001")
            .replace(r#""elements":["x"]"#, r#""elements":["x","y"]"#),
    );
    let (changes, functions) = compare(&before, &after);
    let cart = r#""function":"shop/cart","id":"c-1""#;
    let mut expected = vec![
        format!(r#"{{{cart},"state":"total","change":"changed","before":5,"after":6}}"#),
        format!(
            r#"{{{cart},"state":"items","at":"apple","change":"removed","before":{{"count":2,"note":null}}}}"#
        ),
        format!(
            r#"{{{cart},"state":"items","at":"pear","change":"added","after":{{"count":2,"note":null}}}}"#
        ),
        format!(
            r#"{{{cart},"state":"log","at":1,"change":"changed","before":"b","before_expires_at_ms":2000000,"after":"B","after_expires_at_ms":2000000}}"#
        ),
        format!(
            r#"{{{cart},"state":"token","change":"changed","before":2.5,"before_expires_at_ms":4600000,"after":2.5,"after_expires_at_ms":4600001}}"#
        ),
        format!(r#"{{{cart},"state":"extras","at":["log",1],"change":"added","after":"y"}}"#),
    ];
    expected.sort();
    assert_eq!(lines(&changes), expected);
    let [cart] = &functions[..] else {
        panic!("{functions:?}");
    };
    assert_eq!((cart.addresses.changed, cart.addresses.total()), (1, 1));
    assert_eq!(
        (cart.rows.added, cart.rows.removed, cart.rows.changed),
        (2, 1, 3)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn addresses_are_counted_as_a_model_counts_them(
        before in prop::collection::btree_map("[ab]{0,3}", 0_u8..3, 0..12),
        after in prop::collection::btree_map("[ab]{0,3}", 0_u8..3, 0..12),
    ) {
        let shop = |counts: &BTreeMap<String, u8>| {
            let line = |(id, count): (&String, &u8)| format!(
                "{{\"function\":\"shop/counter\",\"id\":\"{id}\",\"states\":{{\"count\":{count}}}}}\n"
            );
            Shop::of(&counts.iter().map(line).collect::<String>())
        };
        let (changes, functions) = compare(&shop(&before), &shop(&after));
        let mut found: Vec<(String, ChangeKind)> =
            changes.into_iter().map(|change| (change.id, change.change)).collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let mut expected = Vec::new();
        for id in before.keys().chain(after.keys().filter(|id| !before.contains_key(*id))) {
            let change = match (before.get(id), after.get(id)) {
                (None, _) => ChangeKind::Added,
                (_, None) => ChangeKind::Removed,
                (was, is) if was != is => ChangeKind::Changed,
                _ => continue,
            };
            expected.push((id.clone(), change));
        }
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        prop_assert_eq!(&found, &expected);
        let total: u64 = functions.iter().map(|diff| diff.addresses.total()).sum();
        prop_assert_eq!(total, expected.len() as u64);
    }
}
