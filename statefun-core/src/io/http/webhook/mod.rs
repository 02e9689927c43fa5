//! `io.statefun.http.v1/egress`: each record as a request to a URL.
//!
//! Delivery is at least once: after a crash, records that had been delivered may be sent again, with the same
//! `Idempotency-Key` (`lineage-epoch-worker-sequence`), by which the receiver knows them. A restore from a checkpoint
//! begins a new lineage, and so new keys: what it computes again is new to the receiver.
//!
//! A record of a trace that is recorded says so: `traceparent` and `tracestate`, as W3C trace context has them.
//!
//! Records of one key leave one after another, each when the one before is settled; different keys leave in parallel.
//! A record is settled when the receiver took it (2xx), or refused it for good (4xx): then it goes to the dead letter
//! egress, or is dropped with an error in the log. Everything else is tried again, for as long as it takes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::client::{Client, Receiver};
use super::policy::{self, Backoff, Verdict};
use super::tls::{Names, Trust};
use crate::clock::Stopwatch;
use crate::io::egress::{DeadLetters, Egress, EgressContext, EgressError, EgressRecord};
use crate::io::ingress::{Ack, AckOutcome};
use crate::module::description::MessageFormat;
use crate::module::model::{self, HttpMethod, JsonPointer};
use crate::sdk::function::FunctionDefinition;

/// Requests of one webhook at a time.
const CONCURRENCY: usize = 32;
/// Least time between two warnings that requests fail.
const WARNING_PAUSE: Duration = Duration::from_secs(10);
/// Longest time that a dead letter may take while the process stops.
const LAST_LETTERS: Duration = Duration::from_secs(2);
/// The longest part of the receiver's answer that is logged, in characters.
const SHOWN_CHARS: usize = 200;

/// What module.yaml calls them.
const NAMES: Names = Names {
    url: "its `url`",
    ca: "tls.ca",
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const STATEFUN_TYPE: HeaderName = HeaderName::from_static("x-statefun-type");

/// The egress of module.yaml.
pub struct Webhook {
    spec: model::HttpEgress,
    formats: BTreeMap<String, MessageFormat>,
    dead_letters: Option<DeadLetters>,
    open: Option<Open>,
}

/// What it has once it is open.
struct Open {
    sender: Arc<Sender>,
    runtime: tokio::runtime::Handle,
    /// The epoch that was delivered last, perhaps in part.
    epoch: u64,
    /// What of it is settled, by worker and sequence: not to be sent again when the rest of it is.
    settled: Arc<Mutex<HashSet<(u32, u32)>>>,
}

impl Webhook {
    /// The egress of that spec. `functions` say how their records are encoded; `dead_letters` leads to the egress that
    /// the spec names as `deadLetter`.
    pub(crate) fn new(
        spec: model::HttpEgress,
        functions: &[FunctionDefinition],
        dead_letters: Option<DeadLetters>,
    ) -> Self {
        let used = functions.iter().flat_map(|function| &function.egress);
        let own = used.filter(|used| used.id == spec.id.as_str());
        let formats = own
            .map(|used| (used.message.clone(), used.format))
            .collect();
        Self {
            spec,
            formats,
            dead_letters,
            open: None,
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Egress for Webhook {
    fn open(&mut self, context: &EgressContext) -> Result<(), EgressError> {
        let spec = &self.spec;
        if spec.dead_letter.is_some() && self.dead_letters.is_none() {
            return Err(context.fatal("nothing leads to its `deadLetter` egress"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &spec.headers.0 {
            let pair = HeaderName::from_bytes(name.as_bytes())
                .ok()
                .zip(HeaderValue::from_str(value.reveal()).ok());
            let (header, mut value) = pair.ok_or_else(|| {
                context.fatal(format_args!("`headers.{name}` is no legal header"))
            })?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let ca = spec.tls.as_ref().map(|tls| tls.ca.as_path());
        let receiver = Receiver {
            url: &spec.url,
            method: match spec.method {
                HttpMethod::Post => Method::POST,
                HttpMethod::Put => Method::PUT,
                HttpMethod::Patch => Method::PATCH,
            },
            trust: ca.map_or(Trust::System, Trust::SystemAnd),
            names: NAMES,
            connections: CONCURRENCY,
        };
        let client = Client::new(receiver, headers).map_err(|problem| context.fatal(problem))?;
        self.open = Some(Open {
            sender: Arc::new(Sender {
                id: context.id.clone(),
                lineage: context.lineage,
                client,
                formats: self.formats.clone(),
                timeout: spec.timeout,
                backoff: Backoff {
                    first: spec.retry.initial_delay,
                    longest: spec.retry.max_delay,
                },
                dead_letters: self.dead_letters.clone(),
                stopping: context.stopping.clone(),
                warned: Mutex::default(),
            }),
            runtime: context.runtime.clone(),
            epoch: 0,
            settled: Arc::default(),
        });
        Ok(())
    }

    fn deliver(&mut self, epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        let key = self.spec.key_from.as_ref().map(|key| &key.pointer);
        let Some(open) = &mut self.open else {
            return Err(EgressError {
                egress: self.spec.id.to_string(),
                problem: "it is not open".to_owned(),
                transient: false,
            });
        };
        if open.epoch != epoch {
            open.epoch = epoch;
            open.settled = Arc::default();
        }
        let done = lock(&open.settled).clone();
        let rest = records
            .iter()
            .filter(|record| !done.contains(&(record.worker, record.sequence)));
        let lanes = lanes(rest, key);
        let delivering = deliver(open.sender.clone(), epoch, lanes, open.settled.clone());
        open.runtime
            .block_on(delivering)
            .map_err(|problem| EgressError {
                egress: open.sender.id.clone(),
                problem,
                transient: true,
            })
    }

    fn flush(&mut self) -> Result<Bytes, EgressError> {
        // What is delivered is settled, so that nothing has to be brought to safety. The engine knows the epoch; this
        // says it to people.
        let position = self
            .open
            .as_ref()
            .map(|open| format!("{:016x}-{}", open.sender.lineage, open.epoch));
        Ok(position.unwrap_or_default().into())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records that leave one after another.
type Lane = VecDeque<EgressRecord>;

/// The records by key, in the order in which the keys come up; one lane for all that have none.
fn lanes<'a>(
    records: impl Iterator<Item = &'a EgressRecord>,
    key: Option<&JsonPointer>,
) -> VecDeque<Lane> {
    let mut lanes: VecDeque<Lane> = VecDeque::new();
    let mut known: HashMap<Option<String>, usize> = HashMap::new();
    for record in records {
        let key = key.and_then(|pointer| key_of(&record.payload, pointer));
        let index = *known.entry(key).or_insert_with(|| {
            lanes.push_back(Lane::new());
            lanes.len() - 1
        });
        if let Some(lane) = lanes.get_mut(index) {
            lane.push_back(record.clone());
        }
    }
    lanes
}

/// The key of a record: any JSON value but null, as its text.
fn key_of(payload: &[u8], pointer: &JsonPointer) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let key = value
        .pointer(pointer.as_str())
        .filter(|key| !key.is_null())?;
    Some(key.to_string())
}

/// Works off all lanes, several at a time. The error says why records are left over.
async fn deliver(
    sender: Arc<Sender>,
    epoch: u64,
    lanes: VecDeque<Lane>,
    settled: Arc<Mutex<HashSet<(u32, u32)>>>,
) -> Result<(), String> {
    let tasks = lanes.len().min(CONCURRENCY);
    let lanes = Arc::new(Mutex::new(lanes));
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (sender, lanes, settled) = (sender.clone(), lanes.clone(), settled.clone());
        running.spawn(async move {
            loop {
                let Some(lane) = lock(&lanes).pop_front() else {
                    return Ok(());
                };
                for record in lane {
                    let number = (record.worker, record.sequence);
                    sender.settle(epoch, record).await?;
                    lock(&settled).insert(number);
                }
            }
        });
    }
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        result = result
            .and(ended.unwrap_or_else(|error| Err(format!("a delivery ended early: {error}"))));
    }
    result
}

struct Sender {
    id: String,
    lineage: u64,
    client: Client,
    formats: BTreeMap<String, MessageFormat>,
    timeout: Duration,
    backoff: Backoff,
    dead_letters: Option<DeadLetters>,
    stopping: watch::Receiver<bool>,
    /// When the last warning was logged.
    warned: Mutex<Option<Stopwatch>>,
}

impl Sender {
    /// Sends a record until it is settled; the error says why it was given up.
    async fn settle(&self, epoch: u64, record: EgressRecord) -> Result<(), String> {
        let headers = self.headers(epoch, &record);
        let mut attempt = 0;
        loop {
            let sending = self.client.send(headers.clone(), record.payload.clone());
            let answer = tokio::time::timeout(self.timeout, sending).await;
            let verdict = match answer {
                Ok(Ok(answer)) => policy::judge(&answer),
                Ok(Err(error)) => Verdict::Again {
                    why: error,
                    after: None,
                },
                Err(_) => Verdict::Again {
                    why: format!(
                        "no answer within {}",
                        humantime::format_duration(self.timeout)
                    ),
                    after: None,
                },
            };
            match verdict {
                Verdict::Taken => return Ok(()),
                Verdict::Refused { status, text } => {
                    return self.refused(epoch, record, status, &text).await;
                }
                Verdict::Again { why, after } => {
                    let pause = self.backoff.pause(attempt, after);
                    attempt += 1;
                    self.warn(&why, attempt, pause);
                    self.pause(pause).await.map_err(|()| {
                        format!(
                            "the application is stopping, and {} does not take records: {why}",
                            self.client.origin()
                        )
                    })?;
                }
            }
        }
    }

    fn headers(&self, epoch: u64, record: &EgressRecord) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let format = self.formats.get(record.typename).copied();
        let format = format
            .or_else(|| super::looks_like_json(&record.payload).then_some(MessageFormat::Json));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(super::content_type(format)),
        );
        let key = format!(
            "{:016x}-{epoch}-{}-{}",
            self.lineage, record.worker, record.sequence
        );
        let named = [
            (IDEMPOTENCY_KEY, key.as_str()),
            (STATEFUN_TYPE, record.typename),
        ];
        for (name, value) in named {
            if let (Ok(value), false) = (HeaderValue::from_str(value), value.is_empty()) {
                headers.insert(name, value);
            }
        }
        if let Some(context) = &record.trace {
            super::traced::tell(context, &mut headers);
        }
        headers
    }

    /// The receiver will never take the record.
    async fn refused(
        &self,
        epoch: u64,
        record: EgressRecord,
        status: StatusCode,
        text: &str,
    ) -> Result<(), String> {
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        let reason = format!("{} answered {status}: {shown}", self.client.origin());
        let (worker, sequence) = (record.worker, record.sequence);
        let Some(dead_letters) = &self.dead_letters else {
            tracing::error!(
                egress = self.id,
                epoch,
                worker,
                sequence,
                typename = record.typename,
                reason,
                "a record is refused and DROPPED: set `deadLetter` to keep such records"
            );
            return Ok(());
        };
        tracing::warn!(
            egress = self.id,
            epoch,
            worker,
            sequence,
            reason,
            "a record is refused and goes to the dead letter egress"
        );
        let (tell, told) = oneshot::channel();
        let done = Ack::new(move |outcome| {
            // Who no longer waits delivers the record again.
            let _ = tell.send(outcome);
        });
        dead_letters.send(record, reason, done);
        // While the process stops there may be no further epoch to make it durable.
        let told = tokio::select! {
            biased;
            told = told => told,
            () = self.stopped_for(LAST_LETTERS) => {
                return Err("the application is stopping, and a dead letter is not yet durable".to_owned());
            }
        };
        match told {
            Ok(AckOutcome::Durable) => Ok(()),
            Ok(AckOutcome::Refused(problem)) => {
                Err(format!("a dead letter is not taken: {problem}"))
            }
            Err(_) => Err(
                "the application is stopping, and a dead letter is not known to be durable"
                    .to_owned(),
            ),
        }
    }

    fn warn(&self, why: &str, attempt: u32, pause: Duration) {
        let mut warned = lock(&self.warned);
        let url = self.client.origin();
        let pause = humantime::format_duration(Duration::from_millis(pause.as_millis() as u64));
        if warned.is_none_or(|last| last.elapsed() >= WARNING_PAUSE) {
            *warned = Some(Stopwatch::start());
            tracing::warn!(egress = self.id, url, attempt, %pause, why, "a record is not taken, and sent again");
        } else {
            tracing::debug!(egress = self.id, url, attempt, %pause, why, "a record is not taken, and sent again");
        }
    }

    /// Waits, unless the process is stopping: then each record is tried once, and no more.
    async fn pause(&self, pause: Duration) -> Result<(), ()> {
        tokio::select! {
            biased;
            () = self.stopped_for(Duration::ZERO) => Err(()),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// Ends so long after the process began to stop.
    async fn stopped_for(&self, time: Duration) {
        let mut stopping = self.stopping.clone();
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            // Nobody is left to say it.
            std::future::pending::<()>().await;
        }
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }
}
