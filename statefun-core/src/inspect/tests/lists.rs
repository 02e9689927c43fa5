//! What there is, and how large it is.

use std::ops::ControlFlow;

use super::shop::{NOW, Shop};
use crate::id::{Address, KeyGroups};
use crate::inspect::{Event, InspectError, Item, Measure, Query, run};
use crate::sdk::function::StatefulFunction as _;
use crate::sdk::state::{encode_row, state_id};
use crate::state::StateStore as _;
use crate::state::keys::{Space, address_key};

fn carts() -> Shop {
    let mut lines = String::new();
    for number in 0..50 {
        let log: Vec<String> = (0..number % 7).map(|n| format!("\"{n}\"")).collect();
        lines.push_str(&format!(
            "{{\"function\":\"shop/cart\",\"id\":\"c-{number:02}\",\"states\":{{\"log\":[{}],\"total\":1}}}}\n",
            log.join(",")
        ));
    }
    lines.push_str("{\"function\":\"shop/counter\",\"id\":\"\u{0}a\",\"states\":{\"count\":1}}\n");
    Shop::of(&lines.replace('\u{0}', "\\u0000"))
}

fn ids(items: &[Item]) -> Vec<&str> {
    items
        .iter()
        .map(|item| match item {
            Item::Address(address) => address.id.as_str(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn functions_are_counted() {
    let (items, end) = carts().ask(&Query::Functions).unwrap();
    let counted: Vec<_> = items
        .iter()
        .map(|item| match item {
            Item::Function(size) => (size.function.as_str(), size.addresses, size.rows),
            other => panic!("{other:?}"),
        })
        .collect();
    let elements: u64 = (0..50).map(|number| number % 7).sum();
    let buffers = (0..50).filter(|number| number % 7 > 0).count() as u64;
    assert_eq!(
        counted,
        [
            ("shop/cart", 50, 50 + elements + buffers),
            ("shop/counter", 1, 1)
        ]
    );
    assert_eq!((end.epoch, end.rows), (5, 51 + elements + buffers));
}

#[test]
fn addresses_are_listed_by_id() {
    let shop = carts();
    let list = |prefix: &str, limit| {
        shop.ask(&Query::Addresses {
            function: "shop/cart".to_owned(),
            prefix: prefix.to_owned(),
            limit,
        })
        .unwrap()
    };
    let (items, end) = list("", 100);
    let expected: Vec<String> = (0..50).map(|number| format!("c-{number:02}")).collect();
    assert_eq!(ids(&items), expected);
    assert!(!end.truncated);
    let (items, end) = list("c-1", 100);
    assert_eq!(ids(&items), &expected[10..20]);
    assert!(!end.truncated);
    let (items, end) = list("", 7);
    assert_eq!(ids(&items), &expected[..7]);
    assert!(end.truncated);
    assert_eq!(list("d", 7).0, []);
    assert!(list("", 0).1.truncated);
}

#[test]
fn an_id_that_another_begins_with_is_another() {
    let line = |id: &str| {
        format!("{{\"function\":\"shop/counter\",\"id\":\"{id}\",\"states\":{{\"count\":1}}}}\n")
    };
    let shop = Shop::of(&["a", "ab", "a\\u0000b", ""].map(line).concat());
    for id in ["a", "ab", "a\u{0}b", ""] {
        let get = |function: &str| {
            let (items, end) = shop
                .ask(&Query::Get {
                    function: function.to_owned(),
                    id: id.to_owned(),
                })
                .unwrap();
            assert_eq!(end.addresses, 1, "{id:?}");
            items
        };
        let items = get("shop/counter");
        match &items[..] {
            [Item::States(states)] => assert_eq!(states.id, id),
            other => panic!("{other:?}"),
        }
    }
    let prefixed = Query::Export {
        function: Some("shop/counter".to_owned()),
        prefix: "a\u{0}".to_owned(),
    };
    assert_eq!(shop.ask(&prefixed).unwrap().1.addresses, 1);
}

#[test]
fn the_largest_come_first() {
    let shop = carts();
    let top = |by, limit| {
        shop.ask(&Query::Top {
            function: None,
            by,
            limit,
        })
        .unwrap()
        .0
    };
    let items = top(Measure::Rows, 8);
    assert_eq!(
        ids(&items)[..7],
        ["c-06", "c-13", "c-20", "c-27", "c-34", "c-41", "c-48"],
        "those of the same size by id"
    );
    match &items[0] {
        Item::Address(size) => assert_eq!(size.rows, 8, "total, the buffer's ends, six elements"),
        other => panic!("{other:?}"),
    }
    let all = top(Measure::Bytes, 1_000);
    assert_eq!(all.len(), 51);
    let bytes: Vec<u64> = all
        .iter()
        .map(|item| match item {
            Item::Address(size) => size.bytes,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(bytes.is_sorted_by(|one, other| one >= other));
    assert_eq!(top(Measure::Bytes, 0), []);
}

#[test]
fn what_has_expired_is_not_there() {
    let line = r#"{"function":"shop/cart","id":"x","states":{"token":1,"items":{"a":{"count":1},"b":{"count":2}}},"expires_at_ms":{"token":1000001,"items":{"b":1000000}}}"#;
    let shop = Shop::of(line);
    let exported = shop.export(usize::MAX);
    assert!(
        exported.contains("\"token\"") && !exported.contains("\"b\""),
        "{exported}"
    );
    let gone =
        r#"{"function":"shop/cart","id":"y","states":{"total":1},"expires_at_ms":{"total":5}}"#;
    let shop = Shop::of(gone);
    assert_eq!(shop.export(usize::MAX), "");
    let (items, _) = shop
        .ask(&Query::Top {
            function: None,
            by: Measure::Bytes,
            limit: 5,
        })
        .unwrap();
    assert_eq!(items, []);
}

#[test]
fn rows_that_cannot_be_read_are_shown_with_the_reason() {
    let shop = Shop::of(r#"{"function":"shop/counter","id":"fine","states":{"count":1}}"#);
    let groups = KeyGroups::default();
    let address = Address::new(super::shop::Counter::type_name(), "odd");
    let key = |rest: &[u8]| [&address_key(Space::State, groups, &address)[..], rest].concat();
    let count = state_id("count").to_be_bytes();
    let mut rows = [
        (key(&count), vec![1, 2, 3]),
        (key(&[9; 6]), encode_row(&5, 1, 0).unwrap()),
        (vec![Space::State as u8, 0xff, 0xff], b"no address".to_vec()),
    ];
    rows.sort();
    let mut changes = rows.iter().map(|(key, value)| (&key[..], Some(&value[..])));
    shop.store.apply(6, &mut changes).unwrap();
    let (items, end) = shop
        .ask(&Query::Export {
            function: None,
            prefix: String::new(),
        })
        .unwrap();
    assert_eq!((end.addresses, end.malformed), (2, 1));
    let odd = items
        .iter()
        .map(|item| serde_json::to_string(item).unwrap())
        .find(|line| line.contains("odd"))
        .unwrap();
    assert_eq!(
        odd,
        r##"{"function":"shop/counter","id":"odd","states":{"#09090909":{"$rows":[[{"$key":"CQk="},{"$row":"AQAAAAAAAAAAAAAABQ=="}]]},"count":{"$row":"AQID","problem":"it is too short for a row"}}}"##
    );
}

#[test]
fn who_wants_no_more_is_told_no_more() {
    let shop = carts();
    let mut told = 0;
    let everything = Query::Export {
        function: None,
        prefix: String::new(),
    };
    let result = run(&shop.view(), &everything, NOW, &mut |event| {
        assert!(matches!(event, Event::Item(_)));
        told += 1;
        if told == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(result, Err(InspectError::Stopped)));
    assert_eq!(told, 3);
}

#[test]
fn a_function_that_is_not_there_is_named() {
    let shop = Shop::new();
    let error = shop
        .ask(&Query::Get {
            function: "shop/crat".to_owned(),
            id: "x".to_owned(),
        })
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no function `shop/crat`: did you mean `shop/cart`?"
    );
}
