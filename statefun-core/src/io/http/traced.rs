//! The span of a request, and the headers of W3C trace context.

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::answer::Reply;
use crate::rand::Random;
use crate::trace::{Span, SpanKind, TraceContext, TraceParent, Tracer};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The span that a request comes from; none where it says nothing, or nothing legal.
pub(in crate::io) fn parent_of(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        // Nobody knows which of them counts.
        return None;
    }
    let states = headers.get_all(TRACESTATE).iter();
    let states: Vec<&str> = states.filter_map(|state| state.to_str().ok()).collect();
    TraceContext::parse(parent, Some(&states.join(",")))
}

/// Puts a span into the headers of a request or an answer.
pub(super) fn tell(context: &TraceContext, headers: &mut HeaderMap) {
    let state = context.tracestate().map(str::to_owned);
    for (name, value) in [
        (TRACEPARENT, Some(context.traceparent())),
        (TRACESTATE, state),
    ] {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
}

/// The span of a request, from its head to its answer. It ends as well when the client goes away.
pub(super) struct ServerSpan<'a> {
    tracer: &'a Tracer,
    span: Option<Span>,
    context: TraceContext,
}

impl<'a> ServerSpan<'a> {
    /// Begins it, if the request's trace is recorded.
    pub(super) fn begin(
        tracer: &'a Tracer,
        ingress: &str,
        route: &str,
        headers: &HeaderMap,
    ) -> Option<Self> {
        let parent = parent_of(headers);
        let random = &mut Random::from_system();
        let mut span = tracer.root(parent, SpanKind::Server, ingress, random)?;
        // It is the only method that the ingress takes.
        span.about.request = Some(("POST", route.into()));
        Some(Self {
            tracer,
            context: span.context.clone(),
            span: Some(span),
        })
    }

    /// What the record is told of it.
    pub(super) fn parent(&self) -> TraceParent {
        TraceParent::Span(self.context.clone())
    }

    /// It ends with that answer, which names it.
    pub(super) fn answered(mut self, reply: &mut Reply) {
        tell(&self.context, reply.headers_mut());
        self.end(Some(reply.status()));
    }

    fn end(&mut self, status: Option<StatusCode>) {
        let Some(mut span) = self.span.take() else {
            return;
        };
        span.about.http_status = status.map(|status| status.as_u16());
        span.error = match status {
            None => Some("the client went away".to_owned()),
            Some(status) if status.is_server_error() => {
                Some(status.canonical_reason().unwrap_or_default().to_owned())
            }
            Some(_) => None,
        };
        self.tracer.finish(span);
    }
}

impl Drop for ServerSpan<'_> {
    fn drop(&mut self) {
        self.end(None);
    }
}
