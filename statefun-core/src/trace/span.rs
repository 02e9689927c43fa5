//! Spans: what happened to one message in one place.

use compact_str::CompactString;

use crate::id::TypeName;
use crate::trace::context::{SpanId, TraceContext};

/// What a span is to the ones around it, as OpenTelemetry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanKind {
    /// An invocation.
    Internal,
    /// A request that is answered.
    Server,
    /// A record that is taken out of something.
    Consumer,
    /// A record that is put into something.
    Producer,
}

/// What a span is named by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpanName {
    Function(TypeName),
    Ingress(CompactString),
    Egress(CompactString),
}

/// Where it happened, and to what. What is not known of a span is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// The id of the address.
    pub(crate) id: Option<CompactString>,
    /// The type of the message.
    pub(crate) message: Option<CompactString>,
    pub(crate) epoch: Option<u64>,
    pub(crate) worker: Option<u32>,
    /// Which attempt it was, from 1; told from the second on.
    pub(crate) attempt: u32,
    /// Method and route of a request.
    pub(crate) request: Option<(&'static str, CompactString)>,
    /// The status that it was answered with.
    pub(crate) http_status: Option<u16>,
}

/// Something that happened to a span's message at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpanEvent {
    pub(crate) name: &'static str,
    pub(crate) at_ns: u64,
    pub(crate) problem: String,
}

/// A span. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) context: TraceContext,
    /// None for the first span of a trace.
    pub(crate) parent: Option<SpanId>,
    pub(crate) kind: SpanKind,
    pub(crate) name: SpanName,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) about: About,
    /// Why it failed.
    pub(crate) error: Option<String>,
    pub(crate) events: Vec<SpanEvent>,
}
