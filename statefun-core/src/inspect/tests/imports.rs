//! Lines become rows, and rows lines.

use super::shop::{LINES, NOW, Shop};
use crate::inspect::{ImportError, Imported, Item, Query};
use crate::state::StateStore as _;

#[test]
fn lines_come_back_as_they_were() {
    let shop = Shop::of(LINES);
    assert_eq!(shop.export(usize::MAX), LINES);
    assert_eq!(shop.store.applied_epoch().unwrap(), 5);
}

#[test]
fn an_address_that_fills_several_lines_comes_back() {
    let many: Vec<String> = (0..300).map(|n| format!("\"e{n:03}\"")).collect();
    let table: Vec<String> = many
        .iter()
        .map(|name| format!("{name}:{{\"count\":7}}"))
        .collect();
    let line = format!(
        r#"{{"function":"shop/cart","id":"big","states":{{"items":{{{}}},"log":[{}],"total":1}}}}"#,
        table.join(","),
        many.join(",")
    );
    let shop = Shop::of(&format!("{LINES}{line}\n"));
    let whole = shop.export(usize::MAX);
    assert!(whole.contains(&line));
    for line_bytes in [1, 100, 1_000, 10_000] {
        let parts = shop.export(line_bytes);
        if line_bytes < 10_000 {
            assert!(parts.contains(r#""part":2"#), "{line_bytes}");
        }
        let again = Shop::of(&parts);
        assert_eq!(again.export(line_bytes), parts, "{line_bytes}");
        assert_eq!(again.export(usize::MAX), whole, "{line_bytes}");
    }
}

#[test]
fn what_does_not_say_when_it_expires_does_so_as_if_it_were_written_now() {
    let line = r#"{"function":"shop/cart","id":"x","states":{"token":1,"total":2}}"#;
    let exported = Shop::of(line).export(usize::MAX);
    let at = NOW.as_ms() + 3_600_000;
    let expected = format!(
        "{{\"function\":\"shop/cart\",\"id\":\"x\",\"states\":{{\"token\":1.0,\"total\":2}},\"expires_at_ms\":{{\"token\":{at}}}}}\n"
    );
    assert_eq!(exported, expected);
}

fn count(id: &str, count: u64) -> String {
    format!("{{\"function\":\"shop/counter\",\"id\":\"{id}\",\"states\":{{\"count\":{count}}}}}\n")
}

fn findings(result: Result<Imported, ImportError>) -> Vec<String> {
    match result.unwrap_err() {
        ImportError::Findings { findings, .. } => {
            findings.iter().map(ToString::to_string).collect()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn state_that_is_there_is_replaced_only_when_that_is_said() {
    let shop = Shop::of(&format!("{LINES}{}{}", count("a", 1), count("b", 2)));
    let before = shop.export(usize::MAX);
    let new = format!(
        "{{\"function\":\"shop/cart\",\"id\":\"c-1\",\"states\":{{\"log\":[\"z\"]}}}}\n{}{}",
        count("b", 3),
        count("c", 4)
    );
    assert_eq!(
        findings(shop.import(&new, false)),
        [
            "line 1: shop/cart c-1 has state already",
            "line 2: shop/counter b has state already",
        ]
    );
    assert_eq!(shop.export(usize::MAX), before, "nothing was changed");
    let imported = shop.import(&new, true).unwrap();
    assert_eq!(
        (imported.addresses, imported.replaced, imported.rows),
        (3, 2, 4)
    );
    let expected = Shop::of(&format!("{}{new}", count("a", 1)));
    assert_eq!(shop.export(usize::MAX), expected.export(usize::MAX));
    let get = Query::Get {
        function: "shop/cart".to_owned(),
        id: "c-1".to_owned(),
    };
    let (items, _) = shop.ask(&get).unwrap();
    match &items[..] {
        [Item::States(states)] => assert_eq!(states.states.len(), 1, "{states:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_lines_are_all_told_and_nothing_is_imported() {
    let shop = Shop::new();
    for (line, expected) in [
        (
            "nonsense",
            "it is not JSON: expected ident at line 1 column 2",
        ),
        (
            "[1]",
            "expected an object with `function`, `id` and `states`, found a list of 1",
        ),
        (
            r#"{"function":"shop/cart","id":"x"}"#,
            "`states` is missing",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{},"colour":1}"#,
            "`colour`: expected `function`, `id`, `states` and perhaps `expires_at_ms`, no other field",
        ),
        (
            r#"{"function":"shop/crat","id":"x","states":{}}"#,
            "the application has no function `shop/crat`; did you mean `shop/cart`?",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"totl":1}}"#,
            "`states.totl`: there is no such state; did you mean `total`?",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"total":"many"}}"#,
            "`states.total`: expected u32, found \"many\"",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"total":4294967296}}"#,
            "`states.total`: expected u32, found 4294967296",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"items":{"apple":{"count":-1}}}}"#,
            "`states.items.apple.count`: expected u64, found -1",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"items":{"apple":{"note":"x"}}}}"#,
            "`states.items.apple.count`: the field is missing; Stock needs it, a u64",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"log":["a",1]}}"#,
            "`states.log[1]`: expected String, found 1",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"places":{"1":[]}}}"#,
            "`states.places.1`: expected (i32, bool) as a key, found \"1\"",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"log":["a"]},"expires_at_ms":{"log":[]}}"#,
            "`states.log.expires_at_ms`: expected a list of 1 times, found a list of 0",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{},"expires_at_ms":{"total":1}}"#,
            "`expires_at_ms.total`: there is no such state in `states`",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"extras":{"a":{"kind":"value"}}}}"#,
            "`states.extras.a`: `shape` is missing",
        ),
        (
            r#"{"function":"shop/cart","id":"x","part":2,"states":{"total":1}}"#,
            "part 2 of `x` does not follow its part 1",
        ),
        (
            r#"{"function":"shop/cart","id":"x","states":{"total":{"$row":"AA==","problem":"too short"}}}"#,
            "`states.total`: it could not be read when it was exported: too short: mend it, or leave it out",
        ),
    ] {
        let lines = format!("{}\n{line}\n", count("fine", 1));
        assert_eq!(
            findings(shop.import(&lines, false)),
            [format!("line 3: {expected}")],
            "{line}"
        );
    }
    assert_eq!(shop.export(usize::MAX), "");
}

#[test]
fn findings_are_told_up_to_a_bound() {
    let shop = Shop::new();
    let error = shop.import(&"nonsense\n".repeat(1_000), false).unwrap_err();
    let text = error.to_string();
    assert_eq!(text.lines().count(), 21, "{text}");
    assert!(text.ends_with("there may be more behind these"), "{text}");
}

#[test]
fn lines_that_contradict_each_other_are_told() {
    let shop = Shop::new();
    let lines = [count("a", 1), count("b", 1), count("a", 2)].concat();
    assert_eq!(
        findings(shop.import(&lines, false)),
        ["line 3: line 1 sets the same of shop/counter a"]
    );
    let buffers = r#"{"function":"shop/cart","id":"x","states":{"log":["a","b"]}}"#;
    assert_eq!(
        findings(shop.import(&format!("{buffers}\n\n{buffers}"), false)),
        ["line 3: line 1 sets the same of shop/cart x"]
    );
    let pairs = r#"{"function":"shop/cart","id":"x","states":{"items":{"$map":[["a",{"count":1}],["a",{"count":2}]]}}}"#;
    assert_eq!(
        findings(shop.import(pairs, false)),
        ["line 1: shop/cart x has the same entry twice"]
    );
    // Different states of an address may stand in different lines.
    let apart = concat!(
        r#"{"function":"shop/cart","id":"x","states":{"total":1}}"#,
        "\n",
        r#"{"function":"shop/cart","id":"x","states":{"log":["a"]}}"#,
    );
    assert_eq!(shop.import(apart, false).unwrap().addresses, 1);
}

#[test]
fn rows_of_earlier_versions_say_so_and_come_back() {
    let line = concat!(
        r#"{"function":"shop/cart","id":"x","states":{"extras":{"#,
        r#""old":{"kind":"value","shape":{"uint":64},"version":2,"former":[[1,{"uint":32}]],"value":{"$version":[1,7]}}},"#,
        r#""price":{"1":{"$version":[1,{"euros":3}]},"2":{"cents":450}}}}"#,
        "\n",
    );
    let shop = Shop::of(line);
    assert_eq!(shop.export(usize::MAX), line);
    for (wrong, expected) in [
        (
            line.replace("[1,{\"euros\":3}]", "[3,{\"euros\":3}]"),
            "line 1: `states.price.1`: the code has no version 3 of it, but 2, 1",
        ),
        (
            line.replace("[1,{\"euros\":3}]", "[1,{\"cents\":3}]"),
            "line 1: `states.price.1.euros`: the field is missing; PriceV1 needs it, a u32",
        ),
        (
            line.replace("[1,{\"euros\":3}]", "1"),
            "line 1: `states.price.1`: expected `[number, value]` under `$version`",
        ),
    ] {
        assert_eq!(findings(Shop::new().import(&wrong, false)), [expected]);
    }
}
