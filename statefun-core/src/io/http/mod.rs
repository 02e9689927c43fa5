//! `io.statefun.http.v1`: messages in by `POST`, and out as webhooks.
//!
//! - [`server`]: what listens. All HTTP connectors of an application share one [`HttpServers`].
//! - `route`, `body`, `answer`, `submit`: what a request needs on its way to a worker and back.
//! - [`ingress`]: the ingress; `parts` finds id, type, key and waiting time in a request, `outcome` waits for its
//!   reply, `example` shows how to call it.
//! - [`webhook`]: the egress.
//! - `client`: requests to one URL; `policy`: what the answers mean.
//! - `traced`: the span of a request, and the headers of W3C trace context.
//! - [`tls`]: HTTPS for both, behind the feature `tls`.

mod answer;
mod body;
pub(crate) mod client;
mod example;
pub mod ingress;
mod outcome;
mod parts;
pub(crate) mod policy;
mod route;
pub mod server;
mod submit;
#[cfg(test)]
mod tests;
pub mod tls;
mod traced;
pub mod webhook;

pub use ingress::HttpIngress;
pub use server::{HttpServers, Listening};
pub use webhook::Webhook;

pub(crate) use answer::Unreadable;
pub(in crate::io) use answer::{Reply, problem, with_type};
pub(in crate::io) use body::Budget;
pub(crate) use parts::is_authorised;
pub(in crate::io) use route::Segment;
pub(crate) use route::percent_decode;
pub(in crate::io) use server::{Answering, Endpoint, Example, Opening, Route};
pub(in crate::io) use submit::{CHANNEL, durable};
pub(in crate::io) use traced::parent_of as trace_parent;

use crate::module::description::MessageFormat;

/// The content type of values of a format.
fn content_type(format: Option<MessageFormat>) -> &'static str {
    match format {
        Some(MessageFormat::Json) => "application/json",
        Some(MessageFormat::Msgpack) => "application/msgpack",
        Some(MessageFormat::Protobuf) | None => "application/octet-stream",
    }
}

/// Whether bytes of an unknown type are a JSON text.
fn looks_like_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}
