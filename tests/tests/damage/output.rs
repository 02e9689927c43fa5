//! Output on its way: of an egress that is removed, and into a file that is not its own.

use crate::support::{App, assert_says, file_egress, http_ingress};

fn shown() -> String {
    http_ingress(
        "shop/shown",
        "/parcel/{id}",
        &["shop/Shown"],
        "shop/courier",
    )
}

fn carts() -> String {
    http_ingress("shop/carts", "/cart/{id}", &["shop/Add"], "shop/cart")
}

fn file() -> String {
    file_egress("shop/parcels", "parcels.jsonl")
}

/// Nobody listens there.
const WEBHOOK: &str = "\
---
kind: io.statefun.http.v1/egress
spec:
  id: shop/parcels
  url: http://127.0.0.1:9/
";

fn send(app: &mut App, parcels: std::ops::Range<u64>) {
    let mut running = app.start();
    for total in parcels {
        let body = format!(r#"{{"total":{total},"notes":0,"items":0}}"#);
        running.send("shop/shown", "/parcel/p", &body);
    }
    running.stop();
}

/// With parcels that nobody has taken.
fn with_undelivered(count: u64) -> App {
    let mut app = App::new("shop", &(shown() + WEBHOOK));
    send(&mut app, 0..count);
    app
}

fn without_courier(app: &mut App) {
    app.module(&carts());
    "shop-courier-gone".clone_into(&mut app.app);
}

fn with_file(app: &mut App) {
    app.module(&(shown() + &file()));
    "shop".clone_into(&mut app.app);
}

fn totals(app: &App) -> Vec<u64> {
    let parcels: Vec<serde_json::Value> = app.records("parcels.jsonl");
    parcels
        .iter()
        .map(|parcel| parcel["total"].as_u64().unwrap())
        .collect()
}

#[test]
fn undelivered_output_of_a_removed_egress_is_refused() {
    let mut app = with_undelivered(7);
    without_courier(&mut app);
    for _ in 0..2 {
        let (code, said) = app.refused(&[]);
        assert_eq!(code, 1, "{said}");
        assert_says(
            &said,
            &[
                "egress `shop/parcels` is gone",
                "7 records",
                "--drop-data egress:shop/parcels",
            ],
        );
    }
    // It is brought back, and all of it leaves.
    with_file(&mut app);
    send(&mut app, 7..9);
    assert_eq!(totals(&app), (0..9).collect::<Vec<_>>());
    // Now it may go, and come back: nothing leaves twice.
    without_courier(&mut app);
    app.start().stop();
    app.start().stop();
    with_file(&mut app);
    send(&mut app, 9..10);
    assert_eq!(totals(&app), (0..10).collect::<Vec<_>>());
}

#[test]
fn undelivered_output_that_is_dropped_never_leaves() {
    let mut app = with_undelivered(5);
    without_courier(&mut app);
    // Another's name does not help.
    let (code, said) = app.refused(&["--drop-data", "shop/parcels"]);
    assert_eq!(code, 1, "{said}");
    assert_says(&said, &["5 records"]);
    app.start_with(&["--drop-data", "egress:shop/parcels"])
        .stop();
    app.start().stop();
    with_file(&mut app);
    send(&mut app, 5..8);
    assert_eq!(totals(&app), [5, 6, 7]);
}

#[test]
fn a_foreign_file_is_refused_before_the_application_is_ready() {
    let mut app = App::new("shop", &(shown() + &file()));
    let path = app.path().join("parcels.jsonl");
    // New, beside a file that somebody else has written.
    std::fs::write(&path, "{\"mine\":1}\n").unwrap();
    for _ in 0..2 {
        let (code, said) = app.refused(&[]);
        assert_eq!(code, 1, "{said}");
        assert_says(&said, &["parcels.jsonl has 11 bytes from offset 0 on"]);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"mine\":1}\n");
    std::fs::remove_file(&path).unwrap();
    send(&mut app, 0..3);
    // Somebody has added to it, after a stop and after a kill.
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&good[..], b"{}\n"].concat()).unwrap();
    let (code, said) = app.refused(&[]);
    assert_eq!(code, 1, "{said}");
    let offset = format!("has 3 bytes from offset {} on", good.len());
    assert_says(&said, &[&offset, "nobody else may write this file"]);
    std::fs::write(&path, &good).unwrap();

    app.environment = vec![("STATEFUN_TEST_KILL", "delivered:2".to_owned())];
    let mut running = app.start();
    for total in 3..50 {
        let body = format!(r#"{{"total":{total},"notes":0,"items":0}}"#);
        let sent = running.post("shop/shown", "/parcel/p", Some(&total.to_string()), &body);
        if sent.is_err() {
            break;
        }
    }
    running.kill();
    app.environment.clear();
    // Its own output, which the log does not know of yet, is no doubt for long.
    let mut running = app.start();
    for total in 3..6 {
        let body = format!(r#"{{"total":{total},"notes":0,"items":0}}"#);
        let key = total.to_string();
        let sent = running
            .post("shop/shown", "/parcel/p", Some(&key), &body)
            .unwrap();
        assert_eq!(sent.status, 202, "{}", sent.text());
    }
    running.stop();
    let mut found = totals(&app);
    found.truncate(6);
    assert_eq!(found, (0..6).collect::<Vec<_>>());
}
