//! W3C trace context: which trace something is part of, and which span it comes from.

use std::fmt;
use std::sync::Arc;

/// The number of a trace; not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub(crate) u128);

impl fmt::Display for TraceId {
    /// 32 hexadecimal digits, as in W3C trace context.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The number of a span; not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub(crate) u64);

impl fmt::Display for SpanId {
    /// 16 hexadecimal digits, as in W3C trace context.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A span of a trace as others see it: what a `traceparent` says, and the `tracestate` that came with it.
///
/// ```
/// # use statefun_core::trace::TraceContext;
/// let context = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None).unwrap();
/// assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!(context.is_sampled());
/// assert_eq!(context.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
/// assert_eq!(TraceContext::parse("00-4bf9-00f0-01", None), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) flags: u8,
    /// Not empty, and not longer than [`STATE_BYTES`].
    pub(crate) state: Option<Arc<str>>,
}

/// The flag that says that the trace is recorded.
pub(crate) const SAMPLED: u8 = 1;
/// The flags that version 00 knows: sampled, and that the trace id is random.
const KNOWN_FLAGS: u8 = 3;
/// The longest `tracestate` that is passed on, in bytes: what W3C trace context asks for at least.
pub(crate) const STATE_BYTES: usize = 512;

impl TraceContext {
    /// Reads a `traceparent`, and the `tracestate` beside it. None for a malformed one, which W3C trace context wants ignored.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim_ascii();
        let (version, rest) = field(text, 2)?;
        let version = number(version)?;
        let (trace, rest) = field(rest.strip_prefix('-')?, 32)?;
        let (span, rest) = field(rest.strip_prefix('-')?, 16)?;
        let (flags, rest) = field(rest.strip_prefix('-')?, 2)?;
        // Of later versions, what this one knows is at the same place, and more may follow.
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let (trace, span) = (number(trace)?, number(span)? as u64);
        let flags = number(flags)? as u8 & KNOWN_FLAGS;
        let state = tracestate
            .map(str::trim_ascii)
            .filter(|state| is_state(state));
        (is_whole && trace != 0 && span != 0).then(|| Self {
            trace: TraceId(trace),
            span: SpanId(span),
            flags,
            state: state.map(Arc::from),
        })
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// The span.
    pub fn span_id(&self) -> SpanId {
        self.span
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The W3C `traceparent` of the span.
    pub fn traceparent(&self) -> String {
        traceparent(self.trace, self.span, self.flags)
    }

    /// The W3C `tracestate`, when there is one.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Another span of the same trace.
    pub(crate) fn with_span(&self, span: SpanId) -> Self {
        Self {
            span,
            ..self.clone()
        }
    }
}

pub(crate) fn traceparent(trace: TraceId, span: SpanId, flags: u8) -> String {
    format!("00-{trace}-{span}-{flags:02x}")
}

fn field(text: &str, len: usize) -> Option<(&str, &str)> {
    text.split_at_checked(len)
}

/// Hexadecimal digits in lower case, as W3C trace context wants them.
fn number(digits: &str) -> Option<u128> {
    let legal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    digits
        .bytes()
        .all(legal)
        .then(|| u128::from_str_radix(digits, 16).ok())?
}

fn is_state(state: &str) -> bool {
    let legal = |byte: u8| (0x20..0x7f).contains(&byte);
    !state.is_empty() && state.len() <= STATE_BYTES && state.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn malformed_ones_are_ignored() {
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{TRACE}-{SPAN}-+1"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("01-{TRACE}-{SPAN}-01more"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}{SPAN}-01"),
            "00-\u{e9}\u{e9}".repeat(9),
        ] {
            assert_eq!(TraceContext::parse(&bad, None), None, "{bad}");
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for (text, sampled) in [
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!(" 00-{TRACE}-{SPAN}-01 "), true),
            (format!("cc-{TRACE}-{SPAN}-ff-what-else"), true),
            (format!("cc-{TRACE}-{SPAN}-fe"), false),
        ] {
            let context = TraceContext::parse(&text, None).unwrap();
            assert_eq!(context.trace_id().to_string(), TRACE);
            assert_eq!(context.span_id().to_string(), SPAN);
            assert_eq!(context.is_sampled(), sampled, "{text}");
            assert!(context.traceparent().starts_with("00-"));
        }
    }

    #[test]
    fn a_state_is_passed_on_if_it_is_one() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let state = |state: &str| {
            let context = TraceContext::parse(&parent, Some(state)).unwrap();
            context.tracestate().map(str::to_owned)
        };
        assert_eq!(state(" a=1,b@c=2 ").as_deref(), Some("a=1,b@c=2"));
        for none in ["", "  ", "a=\nb", "a=é", &"a".repeat(STATE_BYTES + 1)] {
            assert_eq!(state(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1u128.., span in 1u64.., flags in 0u8..4) {
            let context = TraceContext { trace: TraceId(trace), span: SpanId(span), flags, state: None };
            prop_assert_eq!(TraceContext::parse(&context.traceparent(), None), Some(context));
        }

        #[test]
        fn any_text_is_a_context_or_none(text: String, state: Option<String>) {
            let _ = TraceContext::parse(&text, state.as_deref());
        }
    }
}
