//! `PUT /{namespace}/{name}/{id}`: a message to any function.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, EXPECT, HeaderMap};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::HOST;
use crate::clock::WallClock;
use crate::id::{Address, KeyGroups, TypeName};
use crate::io::http::{
    Answering, Budget, CHANNEL, Endpoint, Example, HttpServers, Opening, Reply, Route, Segment,
    Unreadable, durable, problem, trace_parent,
};
use crate::io::ingress::{
    Decoder, Ingress, IngressContext, IngressError, MessageLimits, Partition, Record, RecordSender,
    channel,
};
use crate::module::model;
use crate::module::units::ByteSize;

/// Names the type of a value.
const TYPE_PREFIX: &str = "application/vnd.";
/// The type of values whose sender does not name it.
const DEFAULT_TYPE: &str = "io.statefun.types/string";
/// The engine's own functions, which nobody outside may send to.
const RESERVED_NAMESPACE: &str = "io.statefun";
/// Largest body.
const BODY: ByteSize = ByteSize(16 << 20);

/// The ingress of module.yaml. Its answer is 200 when the message is durable.
#[derive(Debug)]
pub struct PlaygroundIngress {
    spec: model::PlaygroundIngress,
    servers: Arc<HttpServers>,
}

impl PlaygroundIngress {
    /// The ingress of that spec, on the application's servers.
    pub fn new(spec: model::PlaygroundIngress, servers: Arc<HttpServers>) -> Self {
        Self { spec, servers }
    }
}

impl Ingress for PlaygroundIngress {
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
        let front = Front {
            decoder: context.decoder.clone(),
            senders,
            key_groups: context.key_groups,
            limits: context.limits.clone(),
            clock: WallClock::default(),
            budget: Budget::for_bodies(BODY),
            unreadable: context.unreadable.clone(),
        };
        let route = Route {
            component: context.id.clone(),
            // StateFun's takes any method; its documentation uses PUT.
            methods: &[Method::PUT, Method::POST],
            path: ["namespace", "name", "id"].map(Segment::Any).into(),
            example: Example::new(|_| None),
            endpoint: Arc::new(front),
            full: Some(context.full.clone()),
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
            .map_err(|problem| context.error(problem))?;
        Ok(partitions)
    }
}

/// What the connections share.
struct Front {
    decoder: Decoder,
    senders: Vec<RecordSender>,
    key_groups: KeyGroups,
    limits: MessageLimits,
    clock: WallClock,
    budget: Budget,
    unreadable: Unreadable,
}

impl Front {
    async fn answer(
        &self,
        request: Request<Incoming>,
        captures: Vec<String>,
    ) -> Result<Reply, Reply> {
        let [namespace, name, id] = captures.as_slice() else {
            return Err(problem(
                StatusCode::NOT_FOUND,
                "the path is `/{namespace}/{name}/{id}`",
            ));
        };
        let function = format!("{namespace}/{name}");
        // Names from outside must not be interned: they would stay forever.
        let target = TypeName::known(&function).filter(|_| namespace != RESERVED_NAMESPACE);
        let Some(target) = target else {
            return Err(problem(
                StatusCode::NOT_FOUND,
                format_args!("there is no function `{function}`"),
            ));
        };
        let (head, body) = request.into_parts();
        let (body, share) = self
            .budget
            .read(body, head.headers.contains_key(EXPECT))
            .await?;
        self.limits
            .check(target, body.len())
            .map_err(|error| problem(StatusCode::PAYLOAD_TOO_LARGE, error))?;
        let (typename, is_named) = type_of(&head.headers);
        let value = self.decoder.decode(&typename, body).map_err(|error| {
            let hint = if is_named {
                ""
            } else {
                " (a body without `Content-Type: application/vnd.NAMESPACE/NAME` is taken for this type)"
            };
            problem(StatusCode::BAD_REQUEST, format_args!("{error}{hint}"))
        })?;
        let address = Address::new(target, id.as_str());
        let worker = self
            .key_groups
            .owner(address.key_group(self.key_groups), self.senders.len());
        let mut record = Record::of(Ok(value));
        record.timestamp = self.clock.now();
        record.target = Some(Box::new(address));
        if let Some(parent) = trace_parent(&head.headers) {
            record = record.with_trace(parent);
        }
        let sender = self.senders.get(worker);
        let sender = sender
            .ok_or_else(|| problem(StatusCode::SERVICE_UNAVAILABLE, "there are no workers"))?;
        durable(sender, record, share).await?;
        Ok(Response::new(Full::new(Bytes::new())))
    }
}

impl Endpoint for Front {
    fn call(self: Arc<Self>, request: Request<Incoming>, captures: Vec<String>) -> Answering {
        Box::pin(async move {
            self.answer(request, captures)
                .await
                .unwrap_or_else(|reply| {
                    self.unreadable.note(&reply);
                    reply
                })
        })
    }
}

/// The type of the value, and whether the sender names it.
fn type_of(headers: &HeaderMap) -> (String, bool) {
    let mut types = headers
        .get_all(CONTENT_TYPE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let named = types.find_map(|value| value.strip_prefix(TYPE_PREFIX));
    match named {
        Some(name) => (
            name.split(';').next().unwrap_or(name).trim().to_owned(),
            true,
        ),
        None => (DEFAULT_TYPE.to_owned(), false),
    }
}
