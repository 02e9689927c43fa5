//! Webhooks, in front of receivers that fail in every way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio::sync::watch;

use super::app::{Greeter, specs};
use super::receiver::{Act, Received, Receiver};
use crate::io::egress::{
    DeadLetter, DeadLetters, Egress, EgressContext, EgressError, EgressRecord,
};
use crate::io::http::Webhook;
use crate::io::ingress::AckOutcome;
use crate::module::Spec;
use crate::module::description::{EgressUse, MessageFormat};
use crate::sdk::function::StatefulFunction as _;

const OK: Act = Act::Answer(200, "", "");

pub(super) struct Hook {
    pub(super) webhook: Webhook,
    pub(super) stopping: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

/// Opens a webhook; `more` are further lines of its spec.
pub(super) fn try_open(
    url: &str,
    more: &str,
    dead_letters: Option<DeadLetters>,
) -> Result<Hook, EgressError> {
    let yaml = format!(
        "kind: io.statefun.http.v1/egress\nspec:\n  id: example/hook\n  url: {url}\n  retry: {{initialDelay: 1ms, maxDelay: 5ms}}\n{more}"
    );
    let Some(Spec::HttpEgress(spec)) = specs(&yaml).into_iter().next() else {
        panic!("no webhook")
    };
    let mut function = Greeter::definition();
    for (message, format) in [
        ("example/Packed", MessageFormat::Msgpack),
        ("example/Greet", MessageFormat::Json),
    ] {
        function.egress.push(EgressUse {
            id: "example/hook".to_owned(),
            message: message.to_owned(),
            format,
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (stopping, receiver) = watch::channel(false);
    let mut webhook = Webhook::new(spec, &[function], dead_letters);
    webhook.open(&EgressContext {
        id: "example/hook".to_owned(),
        position: None,
        lineage: 0xabc,
        restored: false,
        runtime: runtime.handle().clone(),
        stopping: receiver,
    })?;
    Ok(Hook {
        webhook,
        stopping,
        _runtime: runtime,
    })
}

fn open(receiver: &Receiver, more: &str) -> Hook {
    try_open(&format!("http://{}/hook?a=b", receiver.address), more, None).unwrap()
}

fn record(sequence: u32, payload: impl Into<String>) -> EgressRecord {
    EgressRecord {
        trace: None,
        worker: 1,
        sequence,
        typename: "example/Greet",
        payload: payload.into().into(),
    }
}

pub(super) fn numbered(count: u32) -> Vec<EgressRecord> {
    (0..count).map(|n| record(n, n.to_string())).collect()
}

#[test]
fn a_request_says_what_it_carries() {
    let receiver = Receiver::start(|_, _| OK);
    let mut hook = open(
        &receiver,
        "  method: PUT\n  headers: {X-Token: secret, user-agent: me}\n",
    );
    let mut records = vec![record(7, r#"{"a":1}"#)];
    records.push(EgressRecord {
        typename: "example/Packed",
        ..record(8, "\u{1}")
    });
    records.push(EgressRecord {
        typename: "",
        ..record(9, "[1]")
    });
    records.push(EgressRecord {
        typename: "example/Unknown",
        ..record(10, "\u{1}")
    });
    hook.webhook.deliver(42, &records).unwrap();
    let received = receiver.received();
    let first = &received[0];
    assert_eq!(
        (first.line.as_str(), first.body.as_str()),
        ("PUT /hook?a=b HTTP/1.1", r#"{"a":1}"#)
    );
    assert_eq!(
        first.header("idempotency-key"),
        Some("0000000000000abc-42-1-7")
    );
    assert_eq!(
        first.header("host"),
        Some(receiver.address.to_string().as_str())
    );
    assert_eq!(
        (first.header("x-token"), first.header("user-agent")),
        (Some("secret"), Some("me"))
    );
    assert_eq!(first.header("x-statefun-type"), Some("example/Greet"));
    let types: Vec<_> = received
        .iter()
        .map(|received| received.header("content-type").unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "application/json",
            "application/msgpack",
            "application/json",
            "application/octet-stream"
        ]
    );
    assert_eq!(received[2].header("x-statefun-type"), None);
    assert!(!format!("{:?}", hook.webhook).contains("secret"));
    assert_eq!(hook.webhook.flush().unwrap(), "0000000000000abc-42");
}

#[test]
fn records_leave_in_order_over_one_kept_connection() {
    let receiver = Receiver::start(|_, _| Act::Answer(204, "", ""));
    let mut hook = open(&receiver, "");
    for epoch in 1..4 {
        hook.webhook.deliver(epoch, &numbered(50)).unwrap();
    }
    let expected: Vec<String> = (0..150).map(|n| (n % 50).to_string()).collect();
    assert_eq!(receiver.bodies(), expected);
    assert_eq!((receiver.connections(), receiver.most()), (1, 1));
}

#[test]
fn failures_of_every_kind_are_tried_again_with_the_same_key() {
    let acts = [
        Act::Answer(500, "", "broken"),
        Act::Drop,
        Act::Answer(429, "retry-after: 0\r\n", ""),
        Act::Garbage,
        Act::Hang,
        Act::Answer(302, "location: /elsewhere\r\n", ""),
        Act::Answer(408, "", ""),
        Act::Answer(425, "", ""),
        Act::AnswerAndClose,
    ];
    let count = acts.len();
    let receiver = Receiver::start(move |n, _| acts.get(n).cloned().unwrap_or(OK));
    let mut hook = open(&receiver, "  timeout: 1s\n");
    hook.webhook.deliver(1, &numbered(2)).unwrap();
    let received = receiver.received();
    let keys: Vec<_> = received
        .iter()
        .map(|received| received.header("idempotency-key").unwrap())
        .collect();
    let mut expected = vec!["0000000000000abc-1-1-0"; count];
    expected.push("0000000000000abc-1-1-1");
    assert_eq!(keys, expected);
}

#[test]
fn a_receiver_that_comes_later_is_waited_for() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    // Bound and not listening: connections are refused, and nobody else gets the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let mut hook = try_open(&url, "", None).unwrap();
    let delivering = super::thread(move || hook.webhook.deliver(1, &numbered(1)).map(|()| hook));
    std::thread::sleep(std::time::Duration::from_millis(20));
    let listener = socket.listen(8).unwrap();
    let (stream, _) = runtime.block_on(listener.accept()).unwrap();
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    assert_eq!(
        super::receiver::read(&mut stream, &mut Vec::new(), 0)
            .unwrap()
            .body,
        "0"
    );
    std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    delivering.join().unwrap().unwrap();
}

#[test]
fn keys_keep_their_order_and_wait_only_for_themselves() {
    // The key `a` fails until all other keys are through.
    let others = Arc::new(AtomicUsize::new(0));
    let counted = others.clone();
    let receiver = Receiver::start(move |_, received: &Received| {
        if received.body.contains("\"k\":\"a\"") {
            return if counted.load(Ordering::SeqCst) == 60 {
                OK
            } else {
                Act::Answer(503, "", "")
            };
        }
        counted.fetch_add(1, Ordering::SeqCst);
        OK
    });
    let mut hook = open(&receiver, "  keyFrom: {pointer: /k}\n");
    let keys = ["a", "b", "c", "d"];
    let records: Vec<EgressRecord> = (0..80)
        .map(|n| {
            record(
                n,
                format!(r#"{{"k":"{}","n":{n}}}"#, keys[n as usize % keys.len()]),
            )
        })
        .collect();
    hook.webhook.deliver(1, &records).unwrap();
    let mut taken: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for received in receiver.received() {
        let body: serde_json::Value = serde_json::from_str(&received.body).unwrap();
        let numbers = taken
            .entry(body["k"].as_str().unwrap().to_owned())
            .or_default();
        let number = body["n"].as_u64().unwrap();
        if numbers.last() != Some(&number) {
            numbers.push(number);
        }
    }
    for (index, key) in (0..).zip(keys) {
        let expected: Vec<u64> = (0..20).map(|n| n * 4 + index).collect();
        assert_eq!(taken[key], expected, "{key}");
    }
    assert_eq!(others.load(Ordering::SeqCst), 60, "nothing was sent twice");
}

#[test]
fn many_keys_share_few_connections() {
    let receiver = Receiver::start(|_, _| {
        std::thread::yield_now();
        OK
    });
    let mut hook = open(&receiver, "  keyFrom: {pointer: ''}\n");
    hook.webhook.deliver(1, &numbered(500)).unwrap();
    let mut bodies: Vec<u32> = receiver
        .bodies()
        .iter()
        .map(|body| body.parse().unwrap())
        .collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..500).collect::<Vec<_>>());
    assert!(receiver.connections() <= 32, "{}", receiver.connections());
    let most = receiver
        .received()
        .iter()
        .map(|received| received.connection)
        .max();
    assert!(most < Some(32), "{most:?}");
}

#[test]
fn what_is_refused_is_dropped_without_a_dead_letter_egress() {
    let receiver = Receiver::start(|n, _| {
        if n == 1 {
            Act::Answer(422, "", "no")
        } else {
            OK
        }
    });
    let mut hook = open(&receiver, "");
    hook.webhook.deliver(1, &numbered(3)).unwrap();
    assert_eq!(receiver.bodies(), ["0", "1", "2"]);
}

#[test]
fn dead_letters_are_durable_before_the_record_counts_as_delivered() {
    let receiver = Receiver::start(|_, received| {
        if received.body == "1" {
            Act::Answer(404, "", "gone")
        } else {
            OK
        }
    });
    let letters: Arc<Mutex<Vec<DeadLetter>>> = Arc::default();
    let into = letters.clone();
    let way = DeadLetters::new(move |letter| into.lock().unwrap().push(letter));
    let url = format!("http://{}/", receiver.address);
    let hook = try_open(&url, "  deadLetter: example/dead\n", Some(way.clone())).unwrap();
    let delivered = Arc::new(AtomicBool::new(false));
    let (mut webhook, told) = (hook.webhook, delivered.clone());
    let delivering = super::thread(move || {
        let result = webhook.deliver(1, &numbered(3));
        told.store(true, Ordering::SeqCst);
        result.map(|()| webhook)
    });
    let letter = loop {
        match letters.lock().unwrap().pop() {
            Some(letter) => break letter,
            None => std::thread::yield_now(),
        }
    };
    assert_eq!(letter.record, record(1, "1"));
    assert!(
        letter.reason.contains("404") && letter.reason.contains("gone"),
        "{}",
        letter.reason
    );
    assert!(!delivered.load(Ordering::SeqCst));
    letter.done.tell(AckOutcome::Durable);
    let mut webhook = delivering.join().unwrap().unwrap();
    assert_eq!(receiver.bodies(), ["0", "1", "2"]);
    // One that nobody takes to the end leaves its record undelivered.
    let delivering = super::thread(move || (webhook.deliver(2, &numbered(3)), webhook));
    loop {
        if let Some(letter) = letters.lock().unwrap().pop() {
            drop(letter);
            break;
        }
        std::thread::yield_now();
    }
    let (result, mut webhook) = delivering.join().unwrap();
    assert!(result.unwrap_err().transient);
    // The next try does not send again what is settled.
    let delivering = super::thread(move || webhook.deliver(2, &numbered(3)));
    loop {
        if let Some(letter) = letters.lock().unwrap().pop() {
            letter.done.tell(AckOutcome::Durable);
            break;
        }
        std::thread::yield_now();
    }
    delivering.join().unwrap().unwrap();
    assert_eq!(receiver.bodies(), ["0", "1", "2", "0", "1", "1", "2"]);
    assert!(
        try_open(&url, "  deadLetter: example/dead\n", None).is_err(),
        "no way to the dead letter egress"
    );
}

#[test]
fn while_stopping_each_record_is_tried_once() {
    let receiver = Receiver::start(|n, _| {
        if n < 2 {
            OK
        } else {
            Act::Answer(503, "retry-after: 3600\r\n", "")
        }
    });
    let mut hook = open(&receiver, "");
    let stopping = hook.stopping.clone();
    let delivering = super::thread(move || (hook.webhook.deliver(1, &numbered(5)), hook));
    while receiver.received().len() < 3 {
        std::thread::yield_now();
    }
    stopping.send_replace(true);
    let (result, mut hook) = delivering.join().unwrap();
    let error = result.unwrap_err();
    assert!(
        error.transient && error.to_string().contains("503"),
        "{error}"
    );
    assert_eq!(receiver.bodies(), ["0", "1", "2"]);
    assert!(hook.webhook.deliver(1, &numbered(5)).is_err());
    assert_eq!(receiver.bodies(), ["0", "1", "2", "2"]);
}

#[test]
fn a_dead_letter_does_not_hold_up_the_stop() {
    let receiver = Receiver::start(|_, _| Act::Answer(410, "", ""));
    let letters: Arc<Mutex<Vec<DeadLetter>>> = Arc::default();
    let into = letters.clone();
    let way = DeadLetters::new(move |letter| into.lock().unwrap().push(letter));
    let url = format!("http://{}/", receiver.address);
    let mut hook = try_open(&url, "  deadLetter: example/dead\n", Some(way)).unwrap();
    hook.stopping.send_replace(true);
    // The letter is neither durable nor dropped, as when there is no further epoch.
    let error = hook.webhook.deliver(1, &numbered(1)).unwrap_err();
    assert!(
        error.transient && error.to_string().contains("dead letter"),
        "{error}"
    );
    assert_eq!(letters.lock().unwrap().len(), 1);
}

#[test]
fn urls_that_cannot_be_served() {
    let error = |url: &str| match try_open(url, "", None) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{url} is open"),
    };
    let user = error("http://user:password@example.com/");
    assert!(
        user.contains("Authorization") && !user.contains("password"),
        "{user}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the receiver does, every record comes at least once, and per key the first arrivals are in order.
    #[test]
    fn no_record_is_lost_or_overtakes_another_of_its_key(
        acts in prop::collection::vec(0..6_u8, 0..60),
        keys in prop::collection::vec(0..4_u8, 1..40),
        keyed: bool,
    ) {
        let receiver = Receiver::start(move |n, _| match acts.get(n) {
            Some(1) => Act::Drop,
            Some(2) => Act::Answer(500, "", ""),
            Some(3) => Act::AnswerAndClose,
            Some(4) => Act::Garbage,
            Some(5) => Act::Answer(200, "connection: close\r\n", "long ".repeat(100).leak()),
            _ => OK,
        });
        let mut hook = open(&receiver, if keyed { "  keyFrom: {pointer: /0}\n" } else { "" });
        let records: Vec<EgressRecord> =
            (0..).zip(&keys).map(|(n, key)| record(n, format!("[{key},{n}]"))).collect();
        hook.webhook.deliver(1, &records).unwrap();
        let mut firsts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut count = 0;
        for body in receiver.bodies() {
            let (key, n): (u64, u64) = serde_json::from_str(&body).unwrap();
            let numbers = firsts.entry(if keyed { key } else { 0 }).or_default();
            if !numbers.contains(&n) {
                prop_assert!(numbers.last() < Some(&n), "{n} after {numbers:?}");
                numbers.push(n);
                count += 1;
            }
        }
        prop_assert_eq!(count, keys.len());
    }
}
