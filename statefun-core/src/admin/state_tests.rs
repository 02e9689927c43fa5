//! State that is asked for while it is there, and answers that come to no end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;

use super::*;
use crate::clock::{Stopwatch, Timestamp};
use crate::id::Address;
use crate::inspect::tests::shop::{LINES, NOW, Shop};
use crate::inspect::{End, StateView};
use crate::metrics::Snapshot;
use crate::state::{Row, StateError, StateReader};

/// An application that does nothing but have state.
struct Fake {
    shop: Arc<Shop>,
    /// Pieces that can be read before reading fails.
    pieces: usize,
    /// Rows that were read.
    read: Arc<AtomicUsize>,
    /// Views that are open.
    open: Arc<()>,
}

impl Fake {
    fn with(lines: &str) -> Self {
        Self {
            shop: Arc::new(Shop::of(lines)),
            pieces: usize::MAX,
            read: Arc::default(),
            open: Arc::default(),
        }
    }
}

struct Rows {
    view: StateView,
    pieces: AtomicUsize,
    read: Arc<AtomicUsize>,
    _open: Arc<()>,
}

impl StateReader for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.view.rows().get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        let left = self.pieces.load(Ordering::SeqCst);
        if left == 0 {
            return Err(StateError::Store("the disk is broken".to_owned()));
        }
        self.pieces.store(left - 1, Ordering::SeqCst);
        let rows = self.view.rows().scan(start, end, limit)?;
        self.read.fetch_add(rows.len(), Ordering::SeqCst);
        Ok(rows)
    }
}

impl Live for Fake {
    fn status(&self) -> Status {
        Status::default()
    }

    fn metrics(&self) -> Snapshot {
        Snapshot {
            taken_ms: 5,
            ..Snapshot::default()
        }
    }

    fn address(&self, _: &str, _: &str) -> Option<Address> {
        None
    }

    fn command(&self, _: Command) -> Results {
        Box::pin(async { Vec::new() })
    }

    fn state(&self) -> SettledState {
        let shop = self.shop.clone();
        let (pieces, read, open) = (self.pieces, self.read.clone(), self.open.clone());
        Box::pin(async move {
            let opened: OpenState = Box::new(move || {
                let view = shop.view();
                let catalog = view.catalog().clone();
                let rows = Rows {
                    view,
                    pieces: AtomicUsize::new(pieces),
                    read,
                    _open: open,
                };
                let view = StateView::new(5, &catalog, Box::new(rows));
                Ok((view, Timestamp(NOW.as_ms())))
            });
            Ok(opened)
        })
    }
}

async fn ask(live: &Fake, uri: &str) -> (StatusCode, Vec<String>) {
    let request = Request::builder().uri(uri).body(()).unwrap();
    let reply = answer(live, &request).await;
    let status = reply.status();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (status, text.lines().map(str::to_owned).collect())
}

fn end_of(lines: &[String]) -> Option<End> {
    match StateMark::read(lines.last()?.as_bytes()) {
        Some(StateMark::End(end)) => Some(end),
        _ => None,
    }
}

#[tokio::test]
async fn answers_come_in_lines_and_say_when_they_are_complete() {
    let live = Fake::with(LINES);
    for (uri, lines, begins) in [
        ("/v1/state", 2, r#"{"function":"shop/cart","addresses":1,"#),
        (
            "/v1/state/addresses?function=shop/cart&prefix=c&limit=5",
            1,
            r#"{"function":"shop/cart","id":"c-1","rows":"#,
        ),
        (
            "/v1/state/get?function=shop/cart&id=c-1",
            1,
            LINES.trim_end(),
        ),
        ("/v1/state/get?function=shop/cart&id=none", 0, ""),
        ("/v1/state/export", 1, LINES.trim_end()),
        ("/v1/state/export?function=shop/counter", 0, ""),
        (
            "/v1/state/top?by=rows&limit=1",
            1,
            r#"{"function":"shop/cart","id":"c-1","rows":"#,
        ),
        (
            "/v1/state/rows?function=shop/cart&prefix=c-1",
            19,
            r#"{"catalog":{"#,
        ),
    ] {
        let (status, answered) = ask(&live, uri).await;
        assert_eq!(status, StatusCode::OK, "{uri}");
        let end = end_of(&answered).unwrap();
        assert_eq!((end.epoch, answered.len() - 1), (5, lines), "{uri}");
        assert!(
            answered[0].starts_with(begins) || lines == 0,
            "{answered:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_before_anything_is_read() {
    let live = Fake::with(LINES);
    let bad = StatusCode::BAD_REQUEST;
    for (uri, expected, because) in [
        ("/v1/state?x=1", bad, "not known"),
        ("/v1/state/get?function=shop/cart", bad, "`id` is missing"),
        ("/v1/state/export?prefix=c", bad, "`function` is missing"),
        ("/v1/state/top?by=size", bad, "`bytes` or `rows`"),
        (
            "/v1/state/addresses?function=shop/cart&limit=-1",
            bad,
            "number",
        ),
        (
            "/v1/state/get?function=shop/crat&id=x",
            StatusCode::NOT_FOUND,
            "did you mean `shop/cart`",
        ),
        ("/v1/state/nothing", StatusCode::NOT_FOUND, "there is no"),
    ] {
        let (status, answered) = ask(&live, uri).await;
        assert_eq!(status, expected, "{uri}");
        assert!(answered[0].contains(because), "{uri}: {answered:?}");
    }
    assert_eq!(live.read.load(Ordering::SeqCst), 0);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/state")
        .body(())
        .unwrap();
    let reply = answer(&live, &request).await;
    assert_eq!(reply.status(), StatusCode::METHOD_NOT_ALLOWED);
}

/// So many addresses.
fn counters(count: u32) -> String {
    let line = |n| {
        format!("{{\"function\":\"shop/counter\",\"id\":\"n-{n}\",\"states\":{{\"count\":{n}}}}}\n")
    };
    let lines: Vec<String> = (0..count).map(line).collect();
    lines.concat()
}

#[tokio::test]
async fn an_answer_that_fails_in_the_middle_says_so() {
    let live = Fake {
        pieces: 3,
        ..Fake::with(&counters(1_000))
    };
    let (status, lines) = ask(&live, "/v1/state/export").await;
    assert_eq!(status, StatusCode::OK);
    assert!(lines.len() > 200, "{}", lines.len());
    assert_eq!(end_of(&lines), None);
    match StateMark::read(lines.last().unwrap().as_bytes()) {
        Some(StateMark::Failed(problem)) => {
            assert!(problem.error.contains("the disk is broken"), "{problem:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_reading_and_a_slow_one_holds_it_up() {
    let entry = "x".repeat(4_000);
    let carts = (0..2_000).map(|n| {
        format!(
            "{{\"function\":\"shop/cart\",\"id\":\"{n}\",\"states\":{{\"log\":[\"{entry}\"]}}}}\n"
        )
    });
    let live = Fake::with(&carts.collect::<String>());
    let request = Request::builder().uri("/v1/state/export").body(()).unwrap();
    let mut body = answer(&live, &request).await.into_body();
    body.frame().await.unwrap().unwrap();
    // Nobody takes more: what is read stays bounded.
    let watch = Stopwatch::start();
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let read = live.read.load(Ordering::SeqCst);
        if read == last && read > 0 {
            break;
        }
        last = read;
        assert!(watch.elapsed() < Duration::from_mins(1));
    }
    assert!(last < 2_000, "{last} of 4,000 rows were read");
    drop(body);
    while Arc::strong_count(&live.open) > 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(watch.elapsed() < Duration::from_mins(1), "it goes on");
    }
    assert!(live.read.load(Ordering::SeqCst) < 3_000);
}
