//! The connectors against models of what must come out of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{KeyGroups, MessageTypeId};
use crate::io::clients::Clients;
use crate::io::ingress::{
    Decoder, Ingress, IngressContext, IngressError, MessageLimits, Record, RecordValue, Source,
    SourceStatus, Waker,
};
use crate::module::description::MessageFormat;
use crate::sdk::message::{CodecError, Message, MessageDefinition, TypedValue, serde_codec};
use crate::shape::{Field, Shape};

mod foreign;
mod framing;
mod input;
mod output;
mod rotation;
mod standard;

/// Names the case that fails.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing case: {}", self.0);
        }
    }
}

/// The seeds of a test: `STATEFUN_SEEDS` times as many when that is set, or the one in `STATEFUN_SEED`, to replay a failure.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    match number("STATEFUN_SEED") {
        Some(one) => one..one + 1,
        None => 0..count * number("STATEFUN_SEEDS").unwrap_or(1),
    }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    })
}

/// A type that Rust code declares. Every other name stays a `TypedValue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: String,
    amount: u64,
    #[serde(default)]
    note: Option<String>,
}

const ORDER: &str = "example/Order";

impl Message for Order {
    const TYPE_ID: MessageTypeId = MessageTypeId::of(ORDER);
    const FORMAT: MessageFormat = MessageFormat::Json;

    fn type_name() -> &'static str {
        ORDER
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_codec::encode_json(ORDER, self, out)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        serde_codec::decode_json(ORDER, bytes)
    }

    fn shape() -> Shape {
        let field = |name: &str, shape, optional| Field {
            name: name.to_owned(),
            shape,
            optional,
        };
        Shape::Struct {
            name: "Order".to_owned(),
            fields: vec![
                field("id", Shape::String, false),
                field("amount", Shape::Uint(64), false),
                field("note", Shape::Option(Box::new(Shape::String)), true),
            ],
        }
    }
}

fn decoder() -> Decoder {
    Decoder::new([MessageDefinition::of::<Order>()])
}

/// An ingress as a worker sees it.
struct Reader {
    source: Box<dyn Source>,
    stop: tokio::sync::watch::Sender<bool>,
    woken: Arc<(Mutex<bool>, Condvar)>,
    finished: bool,
    waiting: std::collections::VecDeque<Record>,
    /// The position behind the last record taken.
    position: Option<Bytes>,
    name: Option<String>,
}

/// What was read: key, and value or problem.
type Read = (Option<String>, Result<String, String>);

fn shown(record: &Record) -> Read {
    let value = record
        .value
        .as_ref()
        .map_err(|bad| bad.problem.clone())
        .map(|RecordValue(value)| {
            let any = value.as_any();
            if let Some(value) = any.downcast_ref::<TypedValue>() {
                return String::from_utf8(value.value.to_vec()).unwrap();
            }
            let order: &Order = any.downcast_ref().unwrap();
            serde_json::to_string(order).unwrap()
        });
    (record.key.as_ref().map(ToString::to_string), value)
}

impl Reader {
    fn open(
        ingress: &mut dyn Ingress,
        position: Option<(&str, Bytes)>,
    ) -> Result<Self, IngressError> {
        let woken = Arc::new((Mutex::new(false), Condvar::new()));
        let bell = woken.clone();
        let waker = Waker::new(move || {
            *bell.0.lock().unwrap() = true;
            bell.1.notify_one();
        });
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let context = IngressContext {
            tracer: None,
            id: "example/orders".to_owned(),
            workers: 1,
            positions: position
                .into_iter()
                .map(|(name, at)| (name.to_owned(), at))
                .collect::<BTreeMap<_, _>>(),
            decoder: decoder(),
            runtime: runtime().handle().clone(),
            stopping,
            full: tokio::sync::watch::channel(false).1,
            clients: Arc::new(Clients::default()),
            wakers: vec![waker],
            key_groups: KeyGroups::new(8),
            unreadable: crate::io::http::Unreadable::default(),
            limits: MessageLimits::default(),
        };
        let mut partitions = ingress.open(&context)?;
        assert_eq!(partitions.len(), 1);
        let partition = partitions.remove(0);
        Ok(Self {
            source: partition.source,
            stop,
            woken,
            finished: false,
            waiting: std::collections::VecDeque::new(),
            position: None,
            name: partition.name,
        })
    }

    /// The next record, as soon as there is one; none when there will be none.
    fn next(&mut self) -> Result<Option<Record>, IngressError> {
        loop {
            if let Some(record) = self.waiting.pop_front() {
                self.position.clone_from(&record.position);
                return Ok(Some(record));
            }
            if self.finished {
                return Ok(None);
            }
            let mut batch = Vec::new();
            let status = self.source.poll(7, &mut batch)?;
            self.waiting.extend(batch);
            match status {
                SourceStatus::Ready => {}
                SourceStatus::Finished => self.finished = true,
                SourceStatus::Idle => {
                    if self.waiting.is_empty() {
                        // Only so that a wake or record that is missing is no endless wait.
                        let woken = self.woken.0.lock().unwrap();
                        let patience = Duration::from_mins(1);
                        let (mut woken, late) = self
                            .woken
                            .1
                            .wait_timeout_while(woken, patience, |woken| !*woken)
                            .unwrap();
                        assert!(!late.timed_out(), "nothing comes any more");
                        *woken = false;
                    }
                }
                SourceStatus::After(_) => unreachable!("it has no reason to wait"),
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<Read> {
        (0..count)
            .map(|_| shown(&self.next().unwrap().expect("more records")))
            .collect()
    }

    fn rest(&mut self) -> Vec<Read> {
        let mut all = Vec::new();
        while let Some(record) = self.next().unwrap() {
            all.push(shown(&record));
        }
        all
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Gives a thread that polls the occasion to do so; nothing depends on whether it does.
fn breathe(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
