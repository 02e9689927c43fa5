//! Traces through a worker: a span per invocation and record of a trace that is recorded, whose context is put beside everything
//! that the invocation sends. Without a tracer nothing of it happens; what carries a context from an earlier process then
//! is handled as the message that it is.

use crate::engine::cut::egress_framing::{self, RecordTrace};
use crate::engine::envelope::Envelope;
use crate::engine::request;
use crate::engine::worker::Worker;
use crate::engine::worker::written::message_name;
use crate::rand::Random;
use crate::sdk::context::InvocationEffects;
use crate::sdk::error::HandlerError;
use crate::trace::carried::Traced;
use crate::trace::span::About;
use crate::trace::tracer::{child, span_id};
use crate::trace::{
    Span, SpanEvent, SpanKind, SpanName, TraceContext, TraceParent, Tracer, current,
};

/// A worker's door to the tracer.
pub(crate) struct WorkerTracer {
    tracer: Tracer,
    random: Random,
    worker: u32,
    /// Of an invocation that has failed, until it is known what becomes of its message.
    failed: Option<Box<Span>>,
}

/// A traced invocation.
pub(super) struct Invocation {
    /// What came with the message.
    parent: TraceContext,
    /// None where the engine's own functions only pass on.
    span: Option<Box<Span>>,
}

impl Invocation {
    fn context(&self) -> &TraceContext {
        self.span
            .as_ref()
            .map_or(&self.parent, |span| &span.context)
    }
}

/// A traced record, while it is routed.
pub(super) enum Routing {
    /// With a span of its own.
    Span(Box<Span>),
    /// Within the span of its ingress.
    Within(TraceContext),
}

impl WorkerTracer {
    /// An invocation begins. Takes the context off its message, if there is one.
    #[inline]
    pub(super) fn enter(
        &mut self,
        envelope: &mut Envelope,
        epoch: u64,
        failures: u32,
    ) -> Option<Box<Invocation>> {
        envelope.body.trace()?;
        self.begin(envelope, epoch, failures)
    }

    #[cold]
    fn begin(
        &mut self,
        envelope: &mut Envelope,
        epoch: u64,
        failures: u32,
    ) -> Option<Box<Invocation>> {
        let parent = Traced::unwrap(&mut envelope.body)?;
        let function = envelope.to.function();
        let mut invocation = Invocation { parent, span: None };
        if function.as_str() != request::TYPENAME {
            let name = SpanName::Function(function);
            let mut span = child(
                &invocation.parent,
                SpanKind::Internal,
                name,
                &mut self.random,
            );
            span.about = About {
                id: self.tracer.tells_ids().then(|| envelope.to.id().into()),
                message: Some(message_name(envelope).into()),
                epoch: Some(epoch),
                worker: Some(self.worker),
                attempt: failures + 1,
                ..About::default()
            };
            invocation.span = Some(Box::new(span));
        }
        current::enter(invocation.context());
        Some(Box::new(invocation))
    }

    /// The invocation has succeeded: what it wants done is part of the trace.
    #[cold]
    pub(super) fn succeeded(&mut self, invocation: Invocation, effects: &mut InvocationEffects) {
        let context = invocation.context();
        for envelope in effects.sends.iter_mut().skip(effects.first_send) {
            Traced::wrap(&mut envelope.body, context.clone());
        }
        for delayed in &mut effects.delayed {
            Traced::wrap(&mut delayed.body, context.clone());
        }
        for spawn in &mut effects.spawns {
            Traced::wrap(&mut spawn.unknown, context.clone());
            let nothing = Box::pin(std::future::pending());
            let operation = std::mem::replace(&mut spawn.operation, nothing);
            let context = context.clone();
            spawn.operation = Box::pin(async move {
                let mut result = operation.await;
                Traced::wrap(&mut result, context);
                result
            });
        }
        if effects.egress_records > 0 {
            let random = &mut self.random;
            egress_framing::trace(&mut effects.egress, effects.first_egress_byte, || {
                RecordTrace {
                    parent: context.span,
                    context: context.with_span(span_id(random)),
                }
            });
        }
        if let Some(span) = invocation.span {
            self.tracer.finish(*span);
        }
    }

    /// The invocation has failed: its message keeps the context that it came with.
    #[cold]
    pub(super) fn failed(
        &mut self,
        invocation: Invocation,
        envelope: &mut Envelope,
        error: &HandlerError,
    ) {
        let Invocation { parent, span } = invocation;
        Traced::wrap(&mut envelope.body, parent);
        self.failed = span.map(|mut span| {
            span.error = Some(error.to_string());
            span
        });
    }

    /// It is known what becomes of the message whose invocation has failed.
    pub(super) fn settled(&mut self, parked: Option<&str>) {
        let Some(mut span) = self.failed.take() else {
            return;
        };
        if let Some(problem) = parked {
            span.events.push(SpanEvent {
                name: "parked",
                at_ns: crate::clock::unix_ns(),
                problem: problem.to_owned(),
            });
        }
        self.tracer.finish(*span);
    }

    /// A message becomes a dead letter.
    pub(super) fn dead_letter(&mut self, envelope: &Envelope, epoch: u64, problem: &str) {
        let Some(parent) = envelope.body.trace() else {
            return;
        };
        let name = SpanName::Function(envelope.to.function());
        let mut span = child(parent, SpanKind::Internal, name, &mut self.random);
        span.about = About {
            id: self.tracer.tells_ids().then(|| envelope.to.id().into()),
            message: Some(message_name(envelope).into()),
            epoch: Some(epoch),
            worker: Some(self.worker),
            ..About::default()
        };
        span.error = Some(format!("a dead letter: {problem}"));
        self.tracer.finish(span);
    }

    /// A record comes in.
    #[inline]
    pub(super) fn record(
        &mut self,
        ingress: &str,
        known: Option<Box<TraceParent>>,
        epoch: u64,
    ) -> Option<Routing> {
        let parent = match known.map(|known| *known) {
            None => None,
            Some(TraceParent::Remote(parent)) => Some(parent),
            Some(TraceParent::Span(context)) => return Some(Routing::Within(context)),
            Some(TraceParent::Unsampled) => return None,
        };
        let mut span = self
            .tracer
            .root(parent, SpanKind::Consumer, ingress, &mut self.random)?;
        span.about.epoch = Some(epoch);
        span.about.worker = Some(self.worker);
        Some(Routing::Span(Box::new(span)))
    }

    /// A record is routed: what it is sent as is part of its trace.
    #[cold]
    pub(super) fn routed(
        &mut self,
        routing: Routing,
        sends: &mut [Envelope],
        problem: Option<&str>,
    ) {
        let context = match &routing {
            Routing::Span(span) => &span.context,
            Routing::Within(context) => context,
        };
        for envelope in sends {
            Traced::wrap(&mut envelope.body, context.clone());
        }
        if let Routing::Span(mut span) = routing {
            span.error = problem.map(str::to_owned);
            self.tracer.finish(*span);
        }
    }

    /// The trace of a record that follows from another one.
    pub(super) fn follow(&mut self, context: &TraceContext) -> RecordTrace {
        RecordTrace {
            parent: context.span,
            context: context.with_span(span_id(&mut self.random)),
        }
    }
}

impl Worker {
    /// Traces what is sampled from here on. The numbers of traces and spans come from `random`, and not from the worker's own: handlers
    /// get the same numbers with and without a tracer.
    pub(crate) fn trace_with(&mut self, tracer: Tracer, random: Random) {
        self.tracer = Some(Box::new(WorkerTracer {
            tracer,
            random,
            worker: self.index as u32,
            failed: None,
        }));
    }
}
