//! The span of the invocation that the calling thread is in.

use std::cell::Cell;

use crate::engine::current::TraceIds;
use crate::trace::context::{SpanId, TraceContext, TraceId, traceparent};

/// A span without what is on the heap, so that it is cheap to set and to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CurrentSpan {
    trace: TraceId,
    span: SpanId,
    flags: u8,
}

impl CurrentSpan {
    pub(crate) fn of(context: &TraceContext) -> Self {
        Self {
            trace: context.trace,
            span: context.span,
            flags: context.flags,
        }
    }

    /// What log lines tell of it.
    pub(crate) fn ids(self) -> TraceIds {
        TraceIds {
            trace_id: self.trace.0.to_be_bytes(),
            span_id: self.span.0.to_be_bytes(),
        }
    }

    pub(crate) fn traceparent(self) -> String {
        traceparent(self.trace, self.span, self.flags)
    }
}

thread_local! {
    static CURRENT: Cell<Option<CurrentSpan>> = const { Cell::new(None) };
}

/// The trace of the invocation that this thread is in; none outside of one, and where the trace is not recorded.
pub fn current() -> Option<TraceId> {
    span().map(|span| span.trace)
}

pub(crate) fn span() -> Option<CurrentSpan> {
    CURRENT.get()
}

/// A traced invocation begins.
pub(crate) fn enter(context: &TraceContext) {
    CURRENT.set(Some(CurrentSpan::of(context)));
}

/// It has ended.
pub(crate) fn leave() {
    CURRENT.set(None);
}
