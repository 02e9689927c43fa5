//! The requests of the operations endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use super::api::{Reply, answer, json, not_there, refuse, wrong_method};
use super::guard::{Guard, Wanted};
use super::health;
use super::server::Answers;
use super::stage::{Stage, State};
use super::state::ReplyBody;
use crate::metrics;
use crate::module::model::Secret;

const CONTENTS: &str = "\
statefun operations
  /health/live    whether the process should go on
  /health/ready   whether it takes work, and what is missing
  /metrics        for Prometheus
  /v1/…           commands and state, as `statefun parked`, `statefun state` and others ask for them
";

/// Answers requests of the operations endpoint.
#[derive(Debug)]
pub(super) struct Operations {
    stage: Arc<Stage>,
    guard: Guard,
}

impl Operations {
    /// Those of an endpoint at an address.
    pub(super) fn new(stage: Arc<Stage>, address: SocketAddr, token: Option<&Secret>) -> Self {
        Self {
            stage,
            guard: Guard::of(address, token),
        }
    }

    /// Answers a request.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Reply {
        let path = request.uri().path();
        let wanted = match path {
            "/health/live" | "/health/ready" => Wanted::Health,
            path if path == "/v1" || path.starts_with("/v1/") => Wanted::Commands,
            _ => Wanted::Numbers,
        };
        if let Some(refused) = self.guard.refuse(wanted, request.headers()) {
            return refused;
        }
        if wanted == Wanted::Commands {
            return match self.stage.get() {
                State::Running(live) => answer(&*live, request).await,
                State::Starting(doing) => not_yet(&doing),
            };
        }
        // HTTP's own rule leaves the body of an answer to HEAD out.
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            "/" | "/health/live" | "/health/ready" | "/metrics" if !reads => {
                wrong_method("GET, HEAD").into()
            }
            "/" => text("text/plain; charset=utf-8", CONTENTS.to_owned()),
            "/health/live" => {
                let live = health::live(&self.stage);
                checked(live.live, &live)
            }
            "/health/ready" => {
                let health = health::ready(&self.stage);
                checked(health.ready, &health)
            }
            "/metrics" => match self.stage.get() {
                State::Running(live) => {
                    text(metrics::CONTENT_TYPE, metrics::expose(&live.metrics()))
                }
                State::Starting(doing) => not_yet(&doing),
            },
            path => not_there(path).into(),
        }
    }
}

impl Answers for Operations {
    async fn answer(&self, request: &Request<Incoming>) -> Reply {
        self.answer(request).await
    }
}

fn checked(fine: bool, value: &impl Serialize) -> Reply {
    let status = if fine {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut reply = json(status, value);
    // Of this moment only.
    reply
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

fn text(content_type: &'static str, text: String) -> Reply {
    let mut reply = Response::new(ReplyBody::whole(Bytes::from(text)));
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn not_yet(doing: &str) -> Reply {
    let error = format_args!("the application is starting: {doing}");
    let mut reply: Reply = refuse(StatusCode::SERVICE_UNAVAILABLE, error).into();
    reply
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}
