//! Changes of the code: what would lose data is refused, names both shapes, and says how to go on.

use std::path::Path;

use serde::Deserialize;

use crate::support::{App, Running, assert_says, file_egress, http_ingress};

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Shown {
    total: u64,
    notes: u64,
    items: u64,
}

fn without_audits() -> String {
    let types = ["shop/Add", "shop/Query"];
    http_ingress("shop/carts", "/cart/{id}/{type}", &types, "shop/cart")
        + &file_egress("shop/parcels", "parcels.jsonl")
}

fn with_audits() -> String {
    let types = ["shop/Add", "shop/Query"];
    without_audits() + &http_ingress("shop/audits", "/audit/{id}/{type}", &types, "shop/audit")
}

/// An application whose code is of the first version, with data of every kind; killed, so that some of it is in the log alone.
fn shop() -> App {
    let mut app = App::new("shop", &with_audits());
    let mut running = app.start();
    for n in 1..=20 {
        let body = format!(r#"{{"item":"item-{}","count":{n}}}"#, n % 5);
        running.send("shop/carts", &format!("/cart/c{}/Add", n % 4), &body);
    }
    for cart in 0..4 {
        wait_for_total(
            &mut running,
            "shop/carts",
            &format!("/cart/c{cart}"),
            total(cart),
        );
    }
    running.kill();
    app
}

/// What all that is added to a cart comes to.
fn total(cart: u64) -> u64 {
    (1..=20).filter(|n| n % 4 == cart).sum()
}

fn query(running: &mut Running, cart: &str) -> Shown {
    running.call("shop/carts", &format!("/cart/{cart}/Query"), "{}")
}

/// What was accepted may still be on its way to its address: waits until all of it has come.
fn wait_for_total(running: &mut Running, ingress: &str, path: &str, total: u64) {
    let total_of = |running: &mut Running| -> u64 {
        running
            .call::<Shown>(ingress, &format!("{path}/Query"), "{}")
            .total
    };
    while total_of(running) != total {}
}

/// What the data of [`shop`] is, when so much has been added to the cart c1 since.
fn assert_untouched(app: &mut App, added: u64) {
    let version = std::mem::replace(&mut app.app, "shop".to_owned());
    app.module(&with_audits());
    let mut running = app.start();
    for cart in 0..4 {
        let total = total(cart) + if cart == 1 { added } else { 0 };
        let shown = query(&mut running, &format!("c{cart}"));
        let (notes, items) = (0, 5);
        assert_eq!(
            shown,
            Shown {
                total,
                notes,
                items
            },
            "c{cart} after {version}"
        );
    }
    running.stop();
}

fn catalog(app: &App) -> Vec<u8> {
    std::fs::read(app.data().join("catalog.json")).unwrap()
}

/// A start of another version that is refused and leaves everything as it was.
fn assert_refused(app: &mut App, version: &str, says: &[&str]) {
    let before = catalog(app);
    version.clone_into(&mut app.app);
    // Twice: a refusal must not make the next start pass.
    for _ in 0..2 {
        let (code, said) = app.refused(&[]);
        assert_eq!(code, 1, "{said}");
        let path = app.data().display().to_string();
        assert_says(&said, &["no longer fits the data in", &path]);
        assert_says(&said, says);
    }
    assert!(before == catalog(app), "the catalog has changed");
}

#[test]
fn a_changed_state_is_refused_with_both_shapes() {
    let mut app = shop();
    assert_refused(
        &mut app,
        "shop-state-changed",
        &[
            "state `total` of `shop/cart` has changed",
            "was value of Total { count: u64 }",
            "is value of Total { count: String }",
            "`#[serde(default)]`",
            "--drop-data shop/cart:total",
        ],
    );
    assert_untouched(&mut app, 0);

    // The way out that the error names: the state is gone, the rest is there.
    app.app = "shop-state-changed".to_owned();
    let mut running = app.start_with(&["--drop-data", "shop/cart:total"]);
    let shown = query(&mut running, "c1");
    assert_eq!((shown.total, shown.items), (0, 5));
    running.send("shop/carts", "/cart/c1/Add", r#"{"item":"x","count":7}"#);
    running.kill();
    let mut running = app.start();
    let shown = query(&mut running, "c1");
    assert_eq!((shown.total, shown.items), (7, 6));
    running.stop();
    // And not the old code again, which cannot read what is there now.
    assert_refused(
        &mut app,
        "shop",
        &["Total { count: String }", "Total { count: u64 }"],
    );
}

#[test]
fn a_changed_message_is_refused_while_some_are_stored() {
    let mut app = shop();
    // Nothing of the type is stored: it may change, and change back.
    for version in ["shop-message-changed", "shop"] {
        version.clone_into(&mut app.app);
        app.start().stop();
    }
    let mut running = app.start();
    for _ in 0..3 {
        let body = r#"{"item":"item-1","count":1,"note_after_ms":3600000}"#;
        running.send("shop/carts", "/cart/c1/Add", body);
    }
    wait_for_total(&mut running, "shop/carts", "/cart/c1", total(1) + 3);
    running.kill();
    assert_refused(
        &mut app,
        "shop-message-changed",
        &[
            "message `shop/Note` has changed",
            "was Note { text: String }",
            "is Note { text: u64 }",
            "3 stored messages of it would not be read",
            "`#[serde(default)]`",
            "another type name",
        ],
    );
    assert_untouched(&mut app, 3);
}

#[test]
fn a_function_that_is_gone_is_refused_while_it_has_data_or_timers() {
    let mut app = shop();
    let gone = without_audits();
    // Never used, it may go.
    app.module(&gone);
    app.app = "shop-audit-gone".to_owned();
    app.start().stop();

    // Only a timer.
    app.module(&with_audits());
    app.app = "shop".to_owned();
    let mut running = app.start();
    let body = r#"{"item":"x","count":0,"note_after_ms":3600000}"#;
    running.send("shop/audits", "/audit/a/Add", body);
    running.kill();
    app.module(&gone);
    let says = [
        "function `shop/audit` is gone",
        "1 messages for it",
        "--drop-data shop/audit",
    ];
    assert_refused(&mut app, "shop-audit-gone", &says);

    // Data as well.
    assert_untouched(&mut app, 0);
    app.app = "shop".to_owned();
    let mut running = app.start();
    for n in 0..3 {
        let body = r#"{"item":"x","count":5}"#;
        running.send("shop/audits", &format!("/audit/a{n}/Add"), body);
        wait_for_total(&mut running, "shop/audits", &format!("/audit/a{n}"), 5);
    }
    running.stop();
    app.module(&gone);
    let says = [
        "function `shop/audit` is gone",
        "3 of its rows and 1 messages",
    ];
    assert_refused(&mut app, "shop-audit-gone", &says);
    assert_untouched(&mut app, 0);

    app.module(&gone);
    app.app = "shop-audit-gone".to_owned();
    app.start_with(&["--drop-data", "shop/audit"]).stop();
    app.start().stop();
    assert_untouched(&mut app, 0);
}

#[test]
fn a_state_that_is_gone_is_refused_while_it_has_rows() {
    let mut app = shop();
    assert_refused(
        &mut app,
        "shop-table-gone",
        &[
            "state `items` of `shop/cart` is gone",
            "table of String to u64",
            "20 of its rows",
            "--drop-data shop/cart:items",
        ],
    );
    assert_untouched(&mut app, 0);
    app.app = "shop-table-gone".to_owned();
    let mut running = app.start_with(&["--drop-data=shop/cart:items"]);
    assert_eq!(query(&mut running, "c1").total, 1 + 5 + 9 + 13 + 17);
    running.stop();
}

#[test]
fn an_added_field_just_works() {
    let mut app = shop();
    let mut running = app.start();
    let body = r#"{"item":"item-0","count":0,"note_after_ms":1500}"#;
    running.send("shop/carts", "/cart/c1/Add", body);
    running.kill();
    app.app = "shop-field-added".to_owned();
    let mut running = app.start();
    let before = query(&mut running, "c1");
    assert_eq!((before.total, before.items), (1 + 5 + 9 + 13 + 17, 5));
    running.send(
        "shop/carts",
        "/cart/c1/Add",
        r#"{"item":"new","count":100}"#,
    );
    // The note was left by the code before.
    let mut shown = query(&mut running, "c1");
    while shown.notes == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        shown = query(&mut running, "c1");
    }
    assert_eq!((shown.total, shown.items), (before.total + 100, 6));
    running.kill();
    let mut running = app.start();
    assert_eq!(query(&mut running, "c1").total, before.total + 100);
    running.stop();
}

#[test]
fn rows_of_the_version_before_are_migrated_when_they_are_read_and_kept_until_they_change() {
    let mut app = shop();
    app.app = "shop-v2".to_owned();
    let mut running = app.start();
    for cart in [0, 2, 3] {
        let shown = query(&mut running, &format!("c{cart}"));
        assert_eq!((shown.total, shown.items), (total(cart), 5), "c{cart}");
    }
    let add = |running: &mut Running, cart: u64| {
        let body = r#"{"item":"item-0","count":100}"#;
        running.send("shop/carts", &format!("/cart/c{cart}/Add"), body);
    };
    add(&mut running, 0);
    // The one that does not migrate waits alone.
    add(&mut running, 1);
    wait_for_total(&mut running, "shop/carts", "/cart/c0", total(0) + 100);
    running.kill();
    let mut running = app.start();
    assert_eq!(query(&mut running, "c0").total, total(0) + 100);
    assert_eq!(query(&mut running, "c2").total, total(2));
    running.stop();

    // Of version 1 there are still rows; only c0 was written again.
    let says = [
        "state `total` of `shop/cart`: 3 rows of version 1 are still stored: keep `TotalV1` and its migration",
        "they are value of Total { count: u64 }",
        "--drop-data shop/cart:total",
    ];
    assert_refused(&mut app, "shop-v2-without-v1", &says);
    // And of version 2 there is one.
    let says = [
        "1 rows of version 2 are still stored: start the code that wrote them",
        "they are value of Total { pieces: String }",
    ];
    assert_refused(&mut app, "shop", &says);

    // Nothing was lost by the refusals.
    app.app = "shop-v2".to_owned();
    let mut running = app.start();
    assert_eq!(query(&mut running, "c3").total, total(3));
    add(&mut running, 2);
    add(&mut running, 3);
    wait_for_total(&mut running, "shop/carts", "/cart/c2", total(2) + 100);
    wait_for_total(&mut running, "shop/carts", "/cart/c3", total(3) + 100);
    running.stop();
    let says = ["1 rows of version 1 are still stored"];
    assert_refused(&mut app, "shop-v2-without-v1", &says);
}

#[test]
fn a_catalog_that_cannot_be_read_is_refused() {
    let mut app = shop();
    let path = app.data().join("catalog.json");
    let good = catalog(&app);
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
    for (bad, why) in [
        (&good[..good.len() / 2], "is not a catalog"),
        (&b""[..], "is not a catalog"),
    ] {
        write(&path, bad);
        let (code, said) = app.refused(&[]);
        assert_eq!(code, 1, "{said}");
        assert_says(&said, &[why, &path.display().to_string()]);
    }
    let newer = String::from_utf8(good.clone()).unwrap();
    write(
        &path,
        newer
            .replacen("\"version\": 1", "\"version\": 3", 1)
            .as_bytes(),
    );
    let (_, said) = app.refused(&[]);
    assert_says(
        &said,
        &["it has version 3", "use the version that wrote it"],
    );
    write(&path, &good);
    assert_untouched(&mut app, 0);
}
