//! `GET /{topic}`: takes the next record of a topic.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

use super::HOST;
use crate::io::egress::{Egress, EgressContext, EgressError, EgressRecord};
use crate::io::http::{
    Answering, Endpoint, Example, HttpServers, Opening, Reply, Route, Segment, problem, with_type,
};
use crate::module::model::{self, PLAYGROUND_EGRESS_RECORD};

/// Records that one topic holds, as many as in StateFun.
const RECORDS: usize = 1 << 20;
/// Bytes that one topic holds.
const BYTES: usize = 64 << 20;

/// The egress of module.yaml. It keeps records in memory until somebody takes them. When a topic is full, further
/// records of it are dropped with a warning, as in StateFun; when the process ends, all are lost.
#[derive(Debug)]
pub struct PlaygroundEgress {
    spec: model::PlaygroundEgress,
    servers: Arc<HttpServers>,
    topics: Arc<Topics>,
    id: String,
}

impl PlaygroundEgress {
    /// The egress of that spec, on the application's servers.
    pub fn new(spec: model::PlaygroundEgress, servers: Arc<HttpServers>) -> Self {
        let queues = spec
            .topics
            .iter()
            .map(|topic| (topic.clone(), Queue::default()))
            .collect();
        Self {
            spec,
            servers,
            topics: Arc::new(Topics(Mutex::new(queues))),
            id: String::new(),
        }
    }
}

impl Egress for PlaygroundEgress {
    fn open(&mut self, context: &EgressContext) -> Result<(), EgressError> {
        self.id.clone_from(&context.id);
        let first = self.spec.topics.first().cloned();
        let route = Route {
            component: context.id.clone(),
            methods: &[Method::GET],
            path: vec![Segment::Rest("topic")],
            example: Example::new(move |base| {
                first.as_ref().map(|topic| format!("curl {base}/{topic}"))
            }),
            endpoint: self.topics.clone(),
            full: None,
        };
        let opening = Opening {
            host: HOST,
            port: self.spec.port,
            tls: None,
            runtime: &context.runtime,
            stopping: &context.stopping,
        };
        self.servers
            .add(&opening, route)
            .map_err(|problem| context.fatal(problem))?;
        Ok(())
    }

    fn deliver(&mut self, _epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        for record in records {
            if let Err(problem) = self.topics.put(&record.payload) {
                tracing::warn!(
                    egress = self.id,
                    typename = record.typename,
                    problem,
                    "a record is dropped"
                );
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Bytes, EgressError> {
        // Nothing here outlives the process, so there is nothing to come back to.
        Ok(Bytes::new())
    }
}

/// What functions write to the egress.
#[derive(Debug, Deserialize)]
struct PlaygroundRecord {
    topic: String,
    /// A text is handed out as it is, any other value as JSON.
    payload: Value,
}

#[derive(Debug)]
struct Topics(Mutex<BTreeMap<String, Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// Each with its length in bytes as it came.
    records: VecDeque<(Value, usize)>,
    bytes: usize,
    /// Records dropped since there was room the last time.
    dropped: u64,
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record into its topic; the error says why it cannot be, unless that was said already.
    fn put(&self, payload: &[u8]) -> Result<(), String> {
        let record: PlaygroundRecord = serde_json::from_slice(payload).map_err(|error| {
            format!(
                "it is no `{PLAYGROUND_EGRESS_RECORD}`, JSON with `topic` and `payload`: {error}"
            )
        })?;
        let mut topics = self.lock();
        let Some(queue) = topics.get_mut(&record.topic) else {
            let known: Vec<&str> = topics.keys().map(String::as_str).collect();
            return Err(format!(
                "there is no topic `{}`; module.yaml names {}",
                record.topic,
                known.join(", ")
            ));
        };
        if queue.records.len() >= RECORDS || queue.bytes.saturating_add(payload.len()) > BYTES {
            queue.dropped += 1;
            // All of them would be said very often, and not all of them would be silent.
            if !queue.dropped.is_power_of_two() {
                return Ok(());
            }
            let (topic, dropped) = (record.topic, queue.dropped);
            return Err(format!(
                "the topic `{topic}` is full, {dropped} of its records are lost: take some by GET"
            ));
        }
        queue.dropped = 0;
        queue.bytes += payload.len();
        queue.records.push_back((record.payload, payload.len()));
        Ok(())
    }

    fn take(&self, topic: &str) -> Reply {
        let mut topics = self.lock();
        let Some(queue) = topics.get_mut(topic) else {
            return problem(
                StatusCode::METHOD_NOT_ALLOWED,
                format_args!("there is no topic `{topic}`"),
            );
        };
        let Some((payload, len)) = queue.records.pop_front() else {
            return problem(
                StatusCode::NOT_FOUND,
                format_args!("the topic `{topic}` has no record at the moment"),
            );
        };
        queue.bytes = queue.bytes.saturating_sub(len);
        drop(topics);
        match payload {
            Value::String(text) => with_type(
                StatusCode::OK,
                text.into(),
                HeaderValue::from_static("text/plain; charset=utf-8"),
            ),
            other => with_type(
                StatusCode::OK,
                other.to_string().into(),
                HeaderValue::from_static("application/json"),
            ),
        }
    }
}

impl Endpoint for Topics {
    fn call(self: Arc<Self>, _request: Request<Incoming>, captures: Vec<String>) -> Answering {
        Box::pin(async move { self.take(captures.first().map_or("", String::as_str)) })
    }
}
