//! Standard input and output.

use std::io::{self, Read as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{ORDER, Reader, runtime};
use crate::io::egress::{Egress, EgressContext, EgressRecord};
use crate::io::file::feed::{self, Halt};
use crate::io::ingress::{Ingress, IngressContext, IngressError, Partition, Record};
use crate::io::stdio::{StdioEgress, StdioIngress, is_reader_gone};
use crate::sdk::message::TypedValue;

fn ingress(input: impl io::Read + Send + 'static) -> StdioIngress {
    let spec = json!({
        "id": "example/orders", "format": "json", "valueType": ORDER, "idFrom": {"pointer": "/id"},
        "targets": [], "routers": [], "onError": "fail",
    });
    StdioIngress::with_input(serde_json::from_value(spec).unwrap(), input)
}

#[test]
fn input_is_read_to_its_end() {
    let input =
        &b"{\"id\":\"a\",\"amount\":1}\n\n{\"id\":\"b\",\"amount\":x}\n{\"id\":\"c\",\"amount\":3}"
            [..];
    let mut reader = Reader::open(&mut ingress(input), None).unwrap();
    assert_eq!(reader.name, None);
    let all = reader.rest();
    assert_eq!(
        all[0],
        (
            Some("a".to_owned()),
            Ok(r#"{"id":"a","amount":1,"note":null}"#.to_owned())
        )
    );
    assert_eq!(
        all[1].1,
        Err("standard input:3:20: expected value".to_owned())
    );
    assert_eq!(all[2].0.as_deref(), Some("c"));
    assert_eq!((all.len(), reader.position), (3, None));
}

#[test]
fn input_that_fails_ends_with_its_error_behind_its_records() {
    struct Failing;
    impl io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("unplugged"))
        }
    }
    let input = b"{\"id\":\"a\",\"amount\":1}\n{\"id".chain(Failing);
    let mut reader = Reader::open(&mut ingress(input), None).unwrap();
    assert_eq!(reader.take(1)[0].0.as_deref(), Some("a"));
    assert!(
        reader
            .next()
            .unwrap_err()
            .to_string()
            .contains("cannot read standard input: unplugged")
    );
    assert!(reader.next().unwrap().is_none());

    let mut ingress = ingress(io::empty());
    assert!(Reader::open(&mut ingress, None).unwrap().rest().is_empty());
    assert!(
        Reader::open(&mut ingress, None).is_err(),
        "it has only one input"
    );
}

/// An ingress whose thread does what it is told.
struct Scripted(Option<Script>);

type Script = Box<dyn FnOnce(&mut feed::Feed) -> Result<(), Halt> + Send>;

impl Ingress for Scripted {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let body = self.0.take().unwrap();
        Ok(vec![feed::spawn(
            context,
            "scripted".to_owned(),
            None,
            Box::new(|_| None),
            body,
        )?])
    }
}

fn record(at: usize) -> Record {
    Record::new(TypedValue {
        typename: "example/Other".into(),
        value: at.to_string().into(),
    })
}

#[test]
fn a_thread_that_panics_is_an_error_and_not_the_end() {
    let body = |feed: &mut feed::Feed| {
        feed.send(record(0))?;
        panic!("on purpose");
    };
    let mut reader = Reader::open(&mut Scripted(Some(Box::new(body))), None).unwrap();
    assert_eq!(reader.take(1).len(), 1);
    assert!(
        reader
            .next()
            .unwrap_err()
            .to_string()
            .contains("has panicked")
    );
}

#[test]
fn a_stop_ends_a_thread_that_waits() {
    // Idle, and with more records than anybody takes.
    let idle = |feed: &mut feed::Feed| feed.pause(std::time::Duration::from_secs(1_000_000));
    let full = |feed: &mut feed::Feed| (0..).try_for_each(|at| feed.send(record(at)));
    for body in [Box::new(idle) as Script, Box::new(full)] {
        let mut reader = Reader::open(&mut Scripted(Some(body)), None).unwrap();
        super::breathe(5);
        reader.stop();
        let all = reader.rest();
        for (at, (_, value)) in all.iter().enumerate() {
            assert_eq!(value.as_ref().unwrap(), &at.to_string());
        }
    }
    // Nobody takes any more at all.
    let (ended, end) = std::sync::mpsc::channel();
    let gone = move |feed: &mut feed::Feed| {
        let outcome = (0..).try_for_each(|at| feed.send(record(at)));
        ended.send(matches!(outcome, Err(Halt::Stopping))).unwrap();
        outcome
    };
    drop(Reader::open(&mut Scripted(Some(Box::new(gone))), None).unwrap());
    assert!(end.recv().unwrap());
}

#[derive(Clone, Default)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    flushed: Arc<Mutex<usize>>,
    fails: Option<io::ErrorKind>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(kind) = self.fails {
            return Err(kind.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        *self.flushed.lock().unwrap() = self.bytes.lock().unwrap().len();
        Ok(())
    }
}

fn egress(output: Output) -> StdioEgress {
    let mut egress = StdioEgress::with_output(
        serde_json::from_value(json!({"id": "example/out"})).unwrap(),
        output,
    );
    let context = EgressContext {
        id: "example/out".to_owned(),
        position: None,
        lineage: 1,
        restored: false,
        runtime: runtime().handle().clone(),
        stopping: tokio::sync::watch::channel(false).1,
    };
    egress.open(&context).unwrap();
    egress
}

fn payload(payload: &'static str) -> EgressRecord {
    EgressRecord {
        trace: None,
        worker: 1,
        sequence: 2,
        typename: ORDER,
        payload: payload.into(),
    }
}

#[test]
fn output_is_a_line_per_record_and_seen_at_once() {
    let output = Output::default();
    let mut egress = egress(output.clone());
    egress
        .deliver(3, &[payload("{\n\"a\": 1}"), payload("2")])
        .unwrap();
    assert_eq!(*output.bytes.lock().unwrap(), b"{\"a\":1}\n2\n");
    assert_eq!(*output.flushed.lock().unwrap(), 10);
    egress.flush().unwrap();
    let error = egress
        .deliver(4, &[payload("3"), payload("{")])
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("record 2 of worker 1 in epoch 4 (`example/Order`)"),
        "{error}"
    );
    assert!(!error.transient && !is_reader_gone(&error));
}

#[test]
fn a_closed_pipe_is_told_apart() {
    for (kind, gone) in [
        (io::ErrorKind::BrokenPipe, true),
        (io::ErrorKind::StorageFull, false),
    ] {
        let error = egress(Output {
            fails: Some(kind),
            ..Output::default()
        })
        .deliver(1, &[payload("1")])
        .unwrap_err();
        assert!(!error.transient);
        assert_eq!(is_reader_gone(&error), gone, "{error}");
    }
}

#[test]
fn whoever_stops_the_application_is_told_of_a_closed_pipe() {
    for (kind, gone) in [
        (io::ErrorKind::BrokenPipe, true),
        (io::ErrorKind::StorageFull, false),
    ] {
        let flag = Arc::<AtomicBool>::default();
        let mut egress = egress(Output {
            fails: Some(kind),
            ..Output::default()
        })
        .tell_when_reader_is_gone(flag.clone());
        let error = egress.deliver(1, &[payload("1")]).unwrap_err();
        // Not given up: it is delivered after the next start.
        assert_eq!(
            (error.transient, flag.load(Ordering::SeqCst)),
            (gone, gone),
            "{error}"
        );
    }
}
