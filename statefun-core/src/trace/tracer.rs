//! Where spans begin and end: the door that workers, connectors and sinks have.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};

use crate::clock::unix_ns;
use crate::rand::Random;
use crate::trace::context::{SAMPLED, SpanId, TraceContext, TraceId};
use crate::trace::sampling::Sample;
use crate::trace::span::{About, Span, SpanKind, SpanName};

/// Finished spans that wait to be exported, at most; more are dropped, and counted.
const WAITING_SPANS: usize = 32_768;

/// What became of spans since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceStatus {
    /// The collector has taken them.
    pub exported: u64,
    /// There was no room for them: they came faster than the collector takes them, or it is away.
    pub dropped: u64,
    /// The collector has refused them, or was away for too long.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) exported: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failed: AtomicU64,
}

struct Shared {
    spans: Sender<Span>,
    counts: Counts,
    sample: Sample,
    /// Whether spans tell the ids of addresses.
    ids: bool,
}

/// Takes finished spans, and never waits. An application that is not traced has none.
#[derive(Clone)]
pub struct Tracer(Arc<Shared>);

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("sample", &self.0.sample)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// What is known of the trace that a record is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TraceParent {
    /// The span that it comes from; its flag decides whether the trace is recorded.
    Remote(TraceContext),
    /// The ingress' own span.
    Span(TraceContext),
    /// It is not recorded.
    Unsampled,
}

impl Tracer {
    /// A tracer, and what comes out of it.
    pub(crate) fn new(sample: Sample, ids: bool) -> (Self, Receiver<Span>) {
        let (spans, finished) = crossbeam_channel::bounded(WAITING_SPANS);
        let shared = Shared {
            spans,
            counts: Counts::default(),
            sample,
            ids,
        };
        (Self(Arc::new(shared)), finished)
    }

    /// What became of the spans.
    pub fn status(&self) -> TraceStatus {
        let Counts {
            exported,
            dropped,
            failed,
        } = &self.0.counts;
        let [exported, dropped, failed] =
            [exported, dropped, failed].map(|count| count.load(Ordering::Relaxed));
        TraceStatus {
            exported,
            dropped,
            failed,
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Whether spans tell the ids of addresses.
    pub(crate) fn tells_ids(&self) -> bool {
        self.0.ids
    }

    /// The span of a record that comes in, if its trace is recorded: the flag of its parent decides, or else chance.
    pub(crate) fn root(
        &self,
        parent: Option<TraceContext>,
        kind: SpanKind,
        ingress: &str,
        random: &mut Random,
    ) -> Option<Span> {
        let name = |ingress: &str| SpanName::Ingress(ingress.into());
        match parent {
            Some(parent) if parent.is_sampled() => {
                Some(child(&parent, kind, name(ingress), random))
            }
            Some(_) => None,
            None if self.0.sample.draw(random) => {
                let (high, low) = (random.next_u64(), random.next_u64());
                let trace = u128::from(high) << 64 | u128::from(low);
                let context = TraceContext {
                    trace: TraceId(trace.max(1)),
                    span: span_id(random),
                    flags: SAMPLED | RANDOM,
                    state: None,
                };
                Some(begun(context, None, kind, name(ingress)))
            }
            None => None,
        }
    }

    /// A span has ended, and now is when.
    pub(crate) fn finish(&self, mut span: Span) {
        span.end_ns = unix_ns().max(span.start_ns);
        if self.0.spans.try_send(span).is_err() {
            self.0.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The flag that says that the trace id is random (W3C trace context, level 2).
const RANDOM: u8 = 2;

/// A span below another one; now is when it begins.
pub(crate) fn child(
    parent: &TraceContext,
    kind: SpanKind,
    name: SpanName,
    random: &mut Random,
) -> Span {
    begun(
        parent.with_span(span_id(random)),
        Some(parent.span),
        kind,
        name,
    )
}

/// A span that begins now.
pub(crate) fn begun(
    context: TraceContext,
    parent: Option<SpanId>,
    kind: SpanKind,
    name: SpanName,
) -> Span {
    let now = unix_ns();
    Span {
        context,
        parent,
        kind,
        name,
        start_ns: now,
        end_ns: now,
        about: About::default(),
        error: None,
        events: Vec::new(),
    }
}

pub(crate) fn span_id(random: &mut Random) -> SpanId {
    SpanId(random.next_u64().max(1))
}
