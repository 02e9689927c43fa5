//! Tracing: one trace from an ingress through every function to the egress, for OpenTelemetry.
//!
//! A sampled record gets a span at its ingress. What its routers send carries that span's [`TraceContext`] along, in the message's
//! body, in rows and in the epoch log; each invocation is a span below it, and passes its own context on to what it sends, replies,
//! spawns and writes to egresses. A record on its way out is a span from the moment at which its epoch is durable until its egress
//! has delivered it. Messages of other records carry nothing.
//!
//! Workers put finished spans into a bounded queue and never wait; [`export`] sends them to a collector (OTLP over HTTP).
//! Spans are observations, not state: those that a crash takes are lost, and what is done again after it is told again.

pub(crate) mod carried;
mod context;
pub(crate) mod current;
pub mod export;
mod otlp;
mod sampling;
pub(crate) mod span;
pub(crate) mod tracer;

pub use context::{SpanId, TraceContext, TraceId};
pub use current::current;
pub use sampling::Sample;
pub use tracer::{TraceStatus, Tracer};

pub(crate) use span::{Span, SpanEvent, SpanKind, SpanName};
pub(crate) use tracer::TraceParent;
