//! Answers: JSON, with the cause and what to do.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::sdk::message::TypedValue;

/// What every request is answered with.
pub(in crate::io) type Reply = Response<Full<Bytes>>;

/// Names the type of a reply.
const STATEFUN_TYPE: HeaderName = HeaderName::from_static("x-statefun-type");

/// Counts requests that cannot become records: they never reach the worker that counts those that cannot be routed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unreadable(Arc<AtomicU64>);

impl Unreadable {
    /// A request is answered so.
    pub(in crate::io) fn note(&self, reply: &Reply) {
        let is_one = matches!(
            reply.status(),
            StatusCode::BAD_REQUEST
                | StatusCode::NOT_FOUND
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
        );
        if is_one {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What went wrong.
#[derive(Debug, Default, Serialize)]
pub(in crate::io) struct Problem {
    pub(in crate::io) error: String,
    /// Where in the body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::io) line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::io) column: Option<u64>,
    /// Whether the message will take effect, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::io) durable: Option<bool>,
}

impl Problem {
    pub(in crate::io) fn reply(&self, status: StatusCode) -> Reply {
        // A struct of plain fields always serializes.
        let body = serde_json::to_vec(self).unwrap_or_default();
        json(status, body.into())
    }
}

/// An error and nothing more.
pub(in crate::io) fn problem(status: StatusCode, error: impl fmt::Display) -> Reply {
    Problem {
        error: error.to_string(),
        ..Problem::default()
    }
    .reply(status)
}

/// The sender is to come again.
pub(in crate::io) fn busy(error: impl fmt::Display) -> Reply {
    let mut reply = problem(StatusCode::TOO_MANY_REQUESTS, error);
    reply
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// The process is stopping; the next request goes to another one, or to this one when it is back.
pub(in crate::io) fn stopping(error: impl fmt::Display) -> Reply {
    let mut reply = problem(StatusCode::SERVICE_UNAVAILABLE, error);
    reply
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    reply
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// The disk is full; the sender is to come again when there may be space.
pub(in crate::io) fn full(error: impl fmt::Display, may_take_effect: bool) -> Reply {
    let problem = Problem {
        error: error.to_string(),
        durable: (!may_take_effect).then_some(false),
        ..Problem::default()
    };
    let mut reply = problem.reply(StatusCode::SERVICE_UNAVAILABLE);
    reply
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("5"));
    reply
}

/// A JSON body.
pub(in crate::io) fn json(status: StatusCode, body: Bytes) -> Reply {
    with_type(status, body, HeaderValue::from_static("application/json"))
}

/// A body of that content type.
pub(in crate::io) fn with_type(
    status: StatusCode,
    body: Bytes,
    content_type: HeaderValue,
) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// The message is durable.
pub(in crate::io) fn accepted() -> Reply {
    json(StatusCode::ACCEPTED, Bytes::from_static(b"{}"))
}

/// A function's reply.
pub(in crate::io) fn value(value: TypedValue, content_type: &'static str) -> Reply {
    let mut reply = with_type(
        StatusCode::OK,
        value.value,
        HeaderValue::from_static(content_type),
    );
    if let Ok(name) = HeaderValue::from_str(&value.typename) {
        reply.headers_mut().insert(STATEFUN_TYPE, name);
    }
    reply
}
