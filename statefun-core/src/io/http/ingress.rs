//! `io.statefun.http.v1/ingress`: messages in by `POST`.
//!
//! A message is answered with 202 when the epoch that took it in is durable. With `?wait` or an `Idempotency-Key` it
//! travels as a [`Request`] to an address of its own, which remembers it and passes the reply back to the connections
//! that wait here. The connection itself has no state that matters: when it goes away, the message does not.
//!
//! Where tracing is on, `traceparent` and `tracestate` are followed as W3C trace context has it, and an answer whose request is recorded
//! names the request's own span in the same headers.
//!
//! | answer | when |
//! |---|---|
//! | 202 | durable: it takes effect exactly once |
//! | 200 | the function's reply; `X-Statefun-Type` names its type |
//! | 400 | it cannot be read: the body as its type, the id, `wait`, the path |
//! | 401 | the token is missing or another one |
//! | 404, 405 | another path or method |
//! | 408, 413, 431 | the body is too slow or too large, the headers too large |
//! | 422 | no target or router takes it; the idempotency key belongs to another message |
//! | 429 | too much is under way: again after `Retry-After` |
//! | 503 | the application is stopping, or its disk is full: again after `Retry-After` |
//! | 504 | no reply, or not durable, in time |

#![expect(
    clippy::result_large_err,
    reason = "the error is the answer to a request: made once, and moved as it is"
)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use compact_str::{CompactString, format_compact};
use http::header::{EXPECT, HeaderMap, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request as HttpRequest, StatusCode};
use hyper::body::Incoming;
use xxhash_rust::xxh3::Xxh3;

use super::answer::{self, Problem, Reply, Unreadable, problem};
use super::body::{Budget, Share};
use super::example;
use super::outcome::{Outcome, Waiting};
use super::parts::{self, Part, Wait};
use super::route::Segment;
use super::server::{Answering, Endpoint, HttpServers, Opening, Route};
use super::submit::{self, CHANNEL};
use super::traced::ServerSpan;
use crate::clock::WallClock;
use crate::engine::request::{Request, request_address};
use crate::id::{Address, KeyGroups, TypeName};
use crate::io::clients::Clients;
use crate::io::ingress::{
    BadRecord, Decoder, Ingress, IngressContext, IngressError, Partition, Record, RecordSender,
    channel,
};
use crate::module::description::MessageFormat;
use crate::module::model::{self, OnError, PathSegment};
use crate::rand::Random;
use crate::sdk::message::CodecError;
use crate::trace::{TraceParent, Tracer};

/// Longest time that a message with an idempotency key and without `?wait` waits to be durable.
const DURABLE: Duration = Duration::from_secs(30);

/// The ingress of module.yaml.
#[derive(Debug)]
pub struct HttpIngress {
    spec: model::HttpIngress,
    servers: Arc<HttpServers>,
}

impl HttpIngress {
    /// The ingress of that spec, on the application's servers.
    pub fn new(spec: model::HttpIngress, servers: Arc<HttpServers>) -> Self {
        Self { spec, servers }
    }
}

impl Ingress for HttpIngress {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let mut partitions = Vec::new();
        let mut senders = Vec::new();
        for worker in 0..context.workers {
            let (sender, source) = channel(CHANNEL, context.waker(worker));
            senders.push(sender);
            partitions.push(Partition {
                name: None,
                worker,
                source: Box::new(source),
            });
        }
        let front = Front::new(&self.spec, context, senders)?;
        let path = self
            .spec
            .path_template()
            .segments()
            .into_iter()
            .map(|segment| match segment {
                PathSegment::Literal(text) => Segment::Literal(text),
                PathSegment::Id => Segment::Any("id"),
                PathSegment::Type => Segment::Any("type"),
            });
        let route = Route {
            component: self.spec.id.to_string(),
            methods: &[Method::POST],
            path: path.collect(),
            example: example::of(&self.spec, context.decoder.clone()),
            endpoint: Arc::new(front),
            full: Some(context.full.clone()),
        };
        let opening = Opening {
            host: self.spec.address.host(),
            port: self.spec.address.port(),
            tls: self.spec.tls.as_ref(),
            runtime: &context.runtime,
            stopping: &context.stopping,
        };
        let address = self
            .servers
            .add(&opening, route)
            .map_err(|problem| context.error(problem))?;
        tracing::debug!(ingress = context.id, %address, "bound");
        Ok(partitions)
    }
}

/// What the connections share.
struct Front {
    id: String,
    types: Vec<String>,
    type_from: Option<Part>,
    id_from: Option<Part>,
    targets: Vec<TypeName>,
    on_error: OnError,
    max_wait: Duration,
    retention: Duration,
    token: Option<model::Secret>,
    decoder: Decoder,
    senders: Vec<RecordSender>,
    /// The worker that gets the next message which may go to any.
    next: AtomicUsize,
    key_groups: KeyGroups,
    clients: Arc<Clients>,
    clock: WallClock,
    budget: Budget,
    tracer: Option<Tracer>,
    unreadable: Unreadable,
    /// The path, with its placeholders.
    route: CompactString,
}

/// What a request asks for.
struct Message {
    key: Option<CompactString>,
    typename: String,
    headers: HeaderMap,
    body: Bytes,
    share: Share,
    trace: Option<Box<TraceParent>>,
}

impl Front {
    fn new(
        spec: &model::HttpIngress,
        context: &IngressContext,
        senders: Vec<RecordSender>,
    ) -> Result<Self, IngressError> {
        let path = spec.path_template().segments();
        let part = |part: Option<model::RequestPart>, placeholder: PathSegment, field| match part {
            None => Ok(None),
            Some(part) => Part::of(&part, &path, &placeholder)
                .map(Some)
                .ok_or_else(|| {
                    context.error(format_args!(
                        "`{field}` says path, and the path has no such placeholder"
                    ))
                }),
        };
        let targets = spec
            .targets
            .iter()
            .map(|target| TypeName::parse(target.as_str()));
        Ok(Self {
            id: context.id.clone(),
            types: spec.value_types().iter().map(ToString::to_string).collect(),
            type_from: part(spec.type_source(), PathSegment::Type, "typeFrom")?,
            id_from: part(spec.id_source(), PathSegment::Id, "idFrom")?,
            targets: targets
                .collect::<Result<_, _>>()
                .map_err(|error| context.error(error))?,
            on_error: spec.on_error.clone(),
            max_wait: spec.max_wait,
            retention: spec.idempotency.retention,
            token: spec.auth.as_ref().map(|auth| auth.bearer.clone()),
            decoder: context.decoder.clone(),
            senders,
            next: AtomicUsize::new(0),
            key_groups: context.key_groups,
            clients: context.clients.clone(),
            clock: WallClock::default(),
            budget: Budget::for_bodies(spec.max_body_bytes),
            tracer: context.tracer.clone(),
            unreadable: context.unreadable.clone(),
            route: spec.path_template().as_str().into(),
        })
    }

    async fn answer(
        &self,
        request: HttpRequest<Incoming>,
        captures: Vec<String>,
        trace: Option<Box<TraceParent>>,
    ) -> Result<Reply, Reply> {
        let (head, body) = request.into_parts();
        if let Some(token) = &self.token
            && !parts::is_authorised(&head.headers, token.reveal())
        {
            let mut reply = problem(
                StatusCode::UNAUTHORIZED,
                "this ingress asks for a token: send `Authorization: Bearer …`",
            );
            reply
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Err(reply);
        }
        let bad_request = |error: String| problem(StatusCode::BAD_REQUEST, error);
        let wait = Wait::of(head.uri.query()).map_err(bad_request)?;
        let idempotency_key = parts::idempotency_key(&head.headers)
            .map_err(bad_request)?
            .map(CompactString::from);
        let expects = head.headers.contains_key(EXPECT);
        let (body, share) = self.budget.read(body, expects).await?;
        if let Some(too_large) = self.decoder.refuses(body.len()) {
            return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, too_large));
        }
        let (typename, key) = self.names(&captures, &head.headers, &body)?;
        let message = Message {
            key,
            typename,
            headers: head.headers,
            body,
            share,
            trace,
        };
        match (wait, idempotency_key) {
            (Wait::No, None) => self.send(message).await,
            (wait, key) => self.request(message, wait, key).await,
        }
    }

    /// The type of the value and the id of the target.
    fn names(
        &self,
        captures: &[String],
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<(String, Option<CompactString>), Reply> {
        let in_body = [&self.type_from, &self.id_from]
            .iter()
            .any(|part| matches!(part, Some(Part::Pointer(_))));
        let document = if in_body {
            let document = serde_json::from_slice::<serde_json::Value>(body);
            Some(document.map_err(|error| self.undecodable(body, &error.to_string(), true))?)
        } else {
            None
        };
        let read = |part: &Part| {
            let read = part.read(captures, headers, document.as_ref());
            read.map_err(|error| self.undecodable(body, &error, false))
        };
        let typename = match &self.type_from {
            Some(part) => {
                let name = read(part)?;
                self.value_type(&name)
                    .map_err(|error| self.undecodable(body, &error, false))?
            }
            None => self.types.first().cloned().unwrap_or_default(),
        };
        let key = self.id_from.as_ref().map(read).transpose()?;
        Ok((typename, key.map(CompactString::from)))
    }

    /// The value type of that name: the full one, or what stands behind the last `/` of one.
    fn value_type(&self, name: &str) -> Result<String, String> {
        if let Some(exact) = self.types.iter().find(|known| *known == name) {
            return Ok(exact.clone());
        }
        let mut short = self
            .types
            .iter()
            .filter(|known| known.rsplit_once('/').is_some_and(|(_, last)| last == name));
        match (short.next(), short.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(one), Some(other)) => Err(format!(
                "`{name}` may be `{one}` or `{other}`: give the full name"
            )),
            (None, _) => Err(format!(
                "`{name}` is not a type of this ingress; its types are {}",
                self.types.join(", ")
            )),
        }
    }

    /// A message that cannot be read: the sender is told, and the policy of the ingress decides what else happens.
    fn undecodable(&self, body: &Bytes, error: &str, is_json: bool) -> Reply {
        match &self.on_error {
            OnError::Skip => tracing::warn!(ingress = self.id, error, "a message is left out"),
            OnError::Fail | OnError::DeadLetter(_) => {
                let mut record = Record::of(Err(BadRecord {
                    bytes: body.clone(),
                    problem: error.to_owned(),
                }));
                // The request's span tells.
                record.trace = Some(Box::new(TraceParent::Unsampled));
                if let Some(sender) = self.senders.get(self.any_worker())
                    && sender.try_send(record).is_err()
                {
                    return answer::busy(
                        "the application cannot take more at the moment: try again",
                    );
                }
            }
        }
        let (line, column) = if is_json {
            place_of(error).unzip()
        } else {
            (None, None)
        };
        let problem = Problem {
            error: error.to_owned(),
            line,
            column,
            durable: None,
        };
        problem.reply(StatusCode::BAD_REQUEST)
    }

    fn codec_error(&self, body: &Bytes, typename: &str, error: &CodecError) -> Reply {
        let is_json = self.format(typename) == Some(MessageFormat::Json);
        self.undecodable(body, &error.to_string(), is_json)
    }

    fn format(&self, typename: &str) -> Option<MessageFormat> {
        self.decoder
            .definition(typename)
            .map(|definition| definition.format)
    }

    fn any_worker(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.senders.len().max(1)
    }

    fn owner(&self, address: &Address) -> usize {
        self.key_groups
            .owner(address.key_group(self.key_groups), self.senders.len())
    }

    fn sender(&self, worker: usize) -> Result<&RecordSender, Reply> {
        self.senders
            .get(worker)
            .ok_or_else(|| answer::stopping("the application has no workers"))
    }

    /// A message whose sender waits only until it is durable.
    async fn send(&self, message: Message) -> Result<Reply, Reply> {
        let value = self
            .decoder
            .decode(&message.typename, message.body.clone())
            .map_err(|error| self.codec_error(&message.body, &message.typename, &error))?;
        let worker = match (self.targets.first(), &message.key) {
            (Some(target), Some(key)) => self.owner(&Address::new(*target, key.clone())),
            _ => self.any_worker(),
        };
        let mut record = Record::of(Ok(value));
        record.key = message.key;
        record.headers = parts::record_headers(&message.headers);
        record.timestamp = self.clock.now();
        record.trace = message.trace;
        submit::durable(self.sender(worker)?, record, message.share).await?;
        Ok(answer::accepted())
    }

    /// A message whose sender waits for the reply, or that takes effect once under its key.
    async fn request(
        &self,
        message: Message,
        wait: Wait,
        key: Option<CompactString>,
    ) -> Result<Reply, Reply> {
        // What cannot be read must not become a request: nobody could answer it with 400 any more.
        self.decoder
            .decode(&message.typename, message.body.clone())
            .map_err(|error| self.codec_error(&message.body, &message.typename, &error))?;
        let id = request_id(
            &self.id,
            message.key.as_deref().unwrap_or_default(),
            key.as_deref(),
        );
        let fingerprint = fingerprint(&[
            message.typename.as_bytes(),
            message.key.as_deref().unwrap_or_default().as_bytes(),
            &message.body,
        ]);
        let limit = match wait {
            Wait::No => DURABLE,
            Wait::Longest => self.max_wait,
            Wait::For(wanted) => wanted.min(self.max_wait),
        };
        let (connection, answer) = self.clients.wait(&id, fingerprint);
        let _waiting = Waiting {
            clients: &self.clients,
            id: &id,
            connection,
        };
        let request = Request {
            ingress: self.id.clone(),
            connection,
            wait: wait != Wait::No,
            retention_ms: key
                .as_ref()
                .map_or(0, |_| self.retention.as_millis() as u64),
            fingerprint,
            key: message.key,
            headers: parts::record_headers(&message.headers),
            timestamp: self.clock.now(),
            target: None,
            typename: message.typename.into(),
            value: message.body,
        };
        let address = request_address(&id);
        let worker = self.owner(&address);
        let mut record = Record::new(request);
        record.target = Some(Box::new(address));
        record.trace = message.trace;
        let told = submit::hand_over(self.sender(worker)?, record, message.share)?;
        let outcome = Outcome {
            answer,
            told,
            limit,
            waits: wait != Wait::No,
            has_key: key.is_some(),
        };
        outcome.reply(&self.decoder).await
    }
}

impl Front {
    fn refused(&self, reply: Reply) -> Reply {
        self.unreadable.note(&reply);
        reply
    }
}

impl Endpoint for Front {
    fn call(self: Arc<Self>, request: HttpRequest<Incoming>, captures: Vec<String>) -> Answering {
        Box::pin(async move {
            let Some(tracer) = &self.tracer else {
                let answer = self.answer(request, captures, None).await;
                return answer.unwrap_or_else(|reply| self.refused(reply));
            };
            let span = ServerSpan::begin(tracer, &self.id, &self.route, request.headers());
            let parent = span
                .as_ref()
                .map_or(TraceParent::Unsampled, ServerSpan::parent);
            let answer = self.answer(request, captures, Some(Box::new(parent))).await;
            let mut reply = answer.unwrap_or_else(|reply| self.refused(reply));
            if let Some(span) = span {
                span.answered(&mut reply);
            }
            reply
        })
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The id of a request's address. A key comes from a header, and so holds none of the control characters.
fn request_id(ingress: &str, target: &str, key: Option<&str>) -> CompactString {
    if let Some(key) = key {
        return format_compact!("{ingress}\u{1f}{target}\u{1f}{key}");
    }
    let (high, low) = (
        Random::from_system().next_u64(),
        Random::from_system().next_u64(),
    );
    format_compact!("{ingress}\u{1f}{target}\u{1f}\u{1e}{high:016x}{low:016x}")
}

fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest()
}

/// The line and column at the end of a message of serde_json.
fn place_of(error: &str) -> Option<(u64, u64)> {
    let (_, place) = error.rsplit_once(" at line ")?;
    let (line, column) = place.split_once(" column ")?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_key_and_target_have_one_id_and_no_others_have() {
        let ids = [
            request_id("a/b", "x", Some("k")),
            request_id("a/b", "x\u{1f}k", Some("k")),
            request_id("a/b", "x", Some("k2")),
            request_id("a/b", "", Some("k")),
            request_id("a/c", "x", Some("k")),
            request_id("a/b", "x", None),
            request_id("a/b", "x", None),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(ids.first(), Some(&request_id("a/b", "x", Some("k"))));
    }

    #[test]
    fn fingerprints_see_where_a_part_ends() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_ne!(fingerprint(&[b"a"]), fingerprint(&[b"a", b""]));
    }

    #[test]
    fn places_in_messages() {
        assert_eq!(
            place_of("expected value at line 3 column 14"),
            Some((3, 14))
        );
        for none in [
            "",
            "at line",
            "x at line a column 1",
            "x at line 1 column 99999999999999999999",
        ] {
            assert_eq!(place_of(none), None, "{none}");
        }
    }
}
