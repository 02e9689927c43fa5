//! How a trace context travels: around a message's body in memory, and as bytes in rows, in the epoch log and in egress records.
//!
//! Layout (little endian, but for the numbers of W3C, which are big endian as in their text):
//! `trace id (16 bytes) · span id (8 bytes) · flags (u8) · length of the tracestate (u16) · tracestate`.

use std::any::Any;
use std::sync::Arc;

use crate::id::MessageTypeId;
use crate::sdk::message::{AnyMessage, Body, CodecError, Taken};
use crate::trace::context::{STATE_BYTES, SpanId, TraceContext, TraceId};

/// A message of a trace that is recorded. It is in every respect the message that it holds, but for the context beside it: who
/// does not know of traces, handles it as it is.
pub(crate) struct Traced {
    pub(crate) context: TraceContext,
    pub(crate) body: Body,
}

impl Traced {
    /// Puts a context beside a message, in its place; one that has a context already gets this one.
    pub(crate) fn wrap(body: &mut Body, context: TraceContext) {
        // Of nothing, the box needs no memory.
        let inner = std::mem::replace(body, Box::new(Taken));
        *body = Box::new(Self {
            context,
            body: inner.without_trace(),
        });
    }

    /// Takes the context away that stands beside a message.
    pub(crate) fn unwrap(body: &mut Body) -> Option<TraceContext> {
        let context = body.trace()?.clone();
        let traced = std::mem::replace(body, Box::new(Taken));
        *body = traced.without_trace();
        Some(context)
    }
}

impl AnyMessage for Traced {
    fn message_type(&self) -> MessageTypeId {
        self.body.message_type()
    }
    fn message_type_name(&self) -> &'static str {
        self.body.message_type_name()
    }
    fn encode_any(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.body.encode_any(out)
    }
    fn clone_any(&self) -> Body {
        Box::new(Self {
            context: self.context.clone(),
            body: self.body.clone_any(),
        })
    }
    fn fetch_any(&self) {
        self.body.fetch_any();
    }
    fn trace(&self) -> Option<&TraceContext> {
        Some(&self.context)
    }
    fn without_trace(self: Box<Self>) -> Body {
        self.body
    }
    fn as_any(&self) -> &dyn Any {
        self.body.as_any()
    }
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.body.into_any()
    }
}

/// Appends a context.
pub(crate) fn push(out: &mut Vec<u8>, context: &TraceContext) {
    out.extend_from_slice(&context.trace.0.to_be_bytes());
    out.extend_from_slice(&context.span.0.to_be_bytes());
    out.push(context.flags);
    let state = context.state.as_deref().unwrap_or_default();
    debug_assert!(state.len() <= STATE_BYTES);
    out.extend_from_slice(&(state.len() as u16).to_le_bytes());
    out.extend_from_slice(state.as_bytes());
}

/// Takes a context from the front of `bytes`, which moves behind it; none when it is malformed.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<TraceContext> {
    let (trace, rest) = bytes.split_first_chunk::<16>()?;
    let (span, rest) = rest.split_first_chunk::<8>()?;
    let (flags, rest) = rest.split_first()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (state, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    *bytes = rest;
    let state = std::str::from_utf8(state).ok()?;
    Some(TraceContext {
        trace: TraceId(u128::from_be_bytes(*trace)),
        span: SpanId(u64::from_be_bytes(*span)),
        flags: *flags,
        state: (!state.is_empty()).then(|| Arc::from(state)),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sdk::message::TypedValue;

    /// Any context.
    pub(crate) fn contexts() -> impl Strategy<Value = TraceContext> {
        let state = prop::option::of("[a-z]=[ -~]{0,40}");
        (1u128.., 1u64.., any::<u8>(), state).prop_map(|(trace, span, flags, state)| TraceContext {
            trace: TraceId(trace),
            span: SpanId(span),
            flags,
            state: state.map(Arc::from),
        })
    }

    #[test]
    fn a_traced_message_is_the_message() {
        let context = TraceContext::parse(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            None,
        );
        let context = context.unwrap();
        let mut body: Body = Box::new(7i64);
        assert_eq!(Traced::unwrap(&mut body), None);
        Traced::wrap(&mut body, context.clone());
        Traced::wrap(&mut body, context.clone());
        assert_eq!(body.as_any().downcast_ref::<i64>(), Some(&7));
        assert_eq!(body.message_type_name(), "io.statefun.types/long");
        let mut copy = body.clone_any();
        assert_eq!(copy.trace(), Some(&context));
        assert_eq!(body.into_any().downcast::<i64>().ok(), Some(Box::new(7)));
        assert_eq!(Traced::unwrap(&mut copy), Some(context));
        assert_eq!(copy.trace(), None);
        let mut bytes = Vec::new();
        copy.encode_any(&mut bytes).unwrap();
        assert_eq!(bytes, TypedValue::from_message(&7i64).unwrap().value);
    }

    proptest! {
        #[test]
        fn a_context_comes_back(context in contexts(), rest: Vec<u8>) {
            let mut bytes = Vec::new();
            push(&mut bytes, &context);
            bytes.extend_from_slice(&rest);
            let mut left = &bytes[..];
            prop_assert_eq!(take(&mut left), Some(context));
            prop_assert_eq!(left, &rest[..]);
            let whole = bytes.len() - rest.len();
            prop_assert_eq!(take(&mut &bytes[..whole - 1]), None);
        }

        #[test]
        fn malformed_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = take(&mut &bytes[..]);
        }
    }
}
