//! What comes in from outside: messages, records, requests; and the ends of operations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use compact_str::CompactString;

use crate::clock::Timestamp;
use crate::engine::envelope::Envelope;
use crate::engine::registry::OnError;
use crate::engine::request::{Answer, Request, request_address};
use crate::engine::worker::TraceEvent;
use crate::id::{Address, TypeName};
use crate::io::ingress::{Ack, AckOutcome, BadRecord, Record};
use crate::sdk::async_result::{AsyncOutcome, AsyncResult};
use crate::sdk::function::{Accepts, Target};
use crate::sdk::message::{AnyMessage, Message, TypedValue};
use crate::testing::builder::HARNESS_INGRESS;
use crate::testing::{Harness, HarnessError, or_fail};

/// How long the harness' own requests are remembered.
const RETENTION_MS: u64 = 24 * 3_600_000;

/// A request whose reply can be asked for; see [`Harness::request`].
#[derive(Debug, Clone)]
pub struct PendingReply {
    id: CompactString,
    target: Address,
}

impl Harness {
    /// Sends a message, as an ingress would: without a caller.
    ///
    /// # Panics
    /// When the function is not in this harness.
    #[track_caller]
    pub fn send<F: Accepts<M>, M: Message>(&mut self, target: Target<F>, message: M) -> &mut Self {
        or_fail(self.post(target.into(), None, Box::new(message)));
        self
    }

    /// Sends a message in the name of a function, to which `ctx.reply` then goes.
    ///
    /// # Panics
    /// When one of the functions is not in this harness.
    #[track_caller]
    pub fn send_from<F: Accepts<M>, M: Message>(
        &mut self,
        caller: impl Into<Address>,
        target: Target<F>,
        message: M,
    ) -> &mut Self {
        let caller = caller.into();
        or_fail(self.check_function(&caller));
        or_fail(self.post(target.into(), Some(caller), Box::new(message)));
        self
    }

    /// Sends a dynamic value to an address known only at run time.
    ///
    /// # Panics
    /// When the function is not in this harness, does not accept the value's type, or the value does not decode as it.
    #[track_caller]
    pub fn send_to(&mut self, target: Address, value: TypedValue) -> &mut Self {
        or_fail(self.try_send_to(target, value))
    }

    /// As [`send_to`](Self::send_to), for tests of what it panics with.
    ///
    /// # Errors
    /// See there.
    pub fn try_send_to(
        &mut self,
        target: Address,
        value: TypedValue,
    ) -> Result<&mut Self, HarnessError> {
        self.check_value(&target, &value)?;
        self.post(target, None, Box::new(value))?;
        Ok(self)
    }

    /// The address of an instance of a function that has no Rust type here, such as a stub.
    ///
    /// # Panics
    /// When the function is not in this harness.
    #[track_caller]
    pub fn address(&self, typename: &str, id: &str) -> Address {
        let address = TypeName::parse(typename).map(|typename| Address::new(typename, id));
        or_fail(
            address
                .map_err(HarnessError::from)
                .and_then(|address| self.check_function(&address).map(|()| address)),
        )
    }

    /// Takes in a record, as the ingress of that id would: its routers and targets get it. A record without a timestamp
    /// gets the virtual time.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::io::ingress::Record;
    /// # use statefun_core::testing::Harness;
    /// # #[stateful_function(typename = "example/counter", accepts(i64))]
    /// # struct Counter { #[persisted] total: PersistedValue<i64> }
    /// # impl Handle<i64> for Counter {
    /// #     fn handle(&mut self, by: i64, _: &mut Context<'_, Self>) -> HandlerResult { *self.total += by; Ok(()) }
    /// # }
    /// let app = Harness::builder().function::<Counter>().targets("example/counts", [Counter::type_name()]);
    /// let mut app = app.build()?;
    /// app.ingest("example/counts", Record::new(5i64).with_key("apples")).run_until_idle();
    /// assert_eq!(app.state(Counter::at("apples"), |counter| *counter.total), 5);
    /// # Ok::<(), statefun_core::testing::HarnessError>(())
    /// ```
    ///
    /// # Panics
    /// When there is no such ingress; and when the record is refused, unless `on_error` says what then happens.
    #[track_caller]
    pub fn ingest(&mut self, ingress: &str, record: Record) -> &mut Self {
        or_fail(self.try_ingest(ingress, record))
    }

    /// As [`ingest`](Self::ingest), for tests of what it panics with.
    ///
    /// # Errors
    /// See there.
    pub fn try_ingest(
        &mut self,
        ingress: &str,
        mut record: Record,
    ) -> Result<&mut Self, HarnessError> {
        let known = || {
            self.registry
                .ingress_ids()
                .filter(|id| *id != HARNESS_INGRESS)
                .map(str::to_owned)
                .collect()
        };
        let unknown = || HarnessError::UnknownIngress {
            id: ingress.to_owned(),
            known: known(),
        };
        let index = self.registry.ingress_index(ingress).ok_or_else(unknown)?;
        if record.timestamp == Timestamp::default() {
            record.timestamp = self.now;
        }
        // Whoever waits for the record is told of a refusal, instead of the process stopping.
        let refused = Arc::new(Mutex::new(None));
        let fails = self
            .registry
            .ingress(index)
            .is_some_and(|wiring| wiring.on_error == OnError::Fail);
        if fails && record.ack.is_none() {
            let refused = refused.clone();
            record.ack = Some(Ack::new(move |outcome| {
                if let AckOutcome::Refused(problem) = outcome {
                    *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
                }
            }));
        }
        self.worker.admit(index, None, record)?;
        self.note_trace()?;
        match refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(problem) => Err(HarnessError::Refused {
                ingress: ingress.to_owned(),
                problem,
            }),
            None => Ok(self),
        }
    }

    /// A record of bytes, read as the message type of that name; bytes that are not of it make a bad record.
    pub fn record(&self, typename: &str, bytes: impl Into<Bytes>) -> Record {
        let bytes = bytes.into();
        let value = self.registry.decoder().decode(typename, bytes.clone());
        Record::of(value.map_err(|error| BadRecord {
            bytes,
            problem: error.to_string(),
        }))
    }

    /// Sends a request as an outside client that waits for the reply; [`reply`](Self::reply) has it when the function
    /// has called `ctx.reply` and the epoch has ended.
    ///
    /// # Panics
    /// When the function is not in this harness, or the message cannot be encoded.
    #[track_caller]
    pub fn request<F: Accepts<M>, M: Message>(
        &mut self,
        target: Target<F>,
        message: M,
    ) -> PendingReply {
        let target = target.into_address();
        let value = TypedValue::from_message(&message);
        let value = value.map_err(|problem| HarnessError::Unencodable {
            to: target.clone(),
            problem,
        });
        or_fail(value.and_then(|value| self.ask(target, value)))
    }

    /// As [`request`](Self::request), with a dynamic value and an address known only at run time.
    ///
    /// # Panics
    /// As [`send_to`](Self::send_to).
    #[track_caller]
    pub fn request_to(&mut self, target: Address, value: TypedValue) -> PendingReply {
        or_fail(self.check_value(&target, &value));
        or_fail(self.ask(target, value))
    }

    fn ask(&mut self, target: Address, value: TypedValue) -> Result<PendingReply, HarnessError> {
        self.check_function(&target)?;
        self.requests += 1;
        let id = CompactString::from(format!(
            "{HARNESS_INGRESS}\u{1f}{target}\u{1f}{}",
            self.requests
        ));
        let request = Request {
            ingress: HARNESS_INGRESS.to_owned(),
            connection: self.requests,
            wait: true,
            retention_ms: RETENTION_MS,
            fingerprint: self.requests,
            key: None,
            headers: BTreeMap::new(),
            timestamp: self.now,
            target: Some(target.clone()),
            typename: value.typename,
            value: value.value,
        };
        self.post(request_address(&id), None, Box::new(request))?;
        Ok(PendingReply { id, target })
    }

    /// The reply to a request; none as long as there is none.
    ///
    /// # Panics
    /// When the request was refused, or the reply is of another type.
    #[track_caller]
    pub fn reply<R: Message>(&self, request: &PendingReply) -> Option<R> {
        let place = || format!("the reply of {}", request.target);
        let other = |problem: String| {
            Err(HarnessError::OtherType {
                place: place(),
                problem,
            })
        };
        let reply = match self.replies.get(&request.id)? {
            Answer::Reply(value) => value
                .to_message::<R>()
                .or_else(|error| other(error.to_string())),
            Answer::Refused(problem) => other(problem.clone()),
            Answer::Accepted | Answer::KeyReused => {
                other("the request was not answered".to_owned())
            }
        };
        Some(or_fail(reply))
    }

    /// Sends a request, runs until idle, and returns the reply.
    ///
    /// # Panics
    /// When there is no reply then, or it is of another type.
    #[track_caller]
    pub fn call<F: Accepts<M>, M: Message, R: Message>(
        &mut self,
        target: Target<F>,
        message: M,
    ) -> R {
        let request = self.request(target, message);
        self.run_until_idle();
        let reply = self.reply(&request);
        let failures = || self.failures().iter().map(ToString::to_string).collect();
        or_fail(reply.ok_or_else(|| HarnessError::NoReply {
            to: request.target.clone(),
            failures: failures(),
        }))
    }

    /// From now on, operations that `ctx.spawn` starts are held: [`complete`](Self::complete) ends them by hand, and
    /// [`release_operations`](Self::release_operations) lets them run.
    pub fn hold_operations(&mut self) -> &mut Self {
        self.operations.hold = true;
        self
    }

    /// Lets the operations run that were held, and those that follow. They make progress in [`run_until_idle`](Self::run_until_idle).
    ///
    /// # Panics
    /// When there is no runtime for them.
    #[track_caller]
    pub fn release_operations(&mut self) -> &mut Self {
        or_fail(self.operations.release());
        self
    }

    /// The addresses whose operations have not ended, in the order of their start.
    pub fn operations(&self) -> Vec<Address> {
        self.operations.open()
    }

    /// Ends the first held operation of a function with the outcome that `end` gives for its metadata. The operation's
    /// own future is dropped without being run.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// # #[stateful_function(typename = "example/payer", accepts(i64, AsyncResult<String, i64>))]
    /// # struct Payer { #[persisted] paid: PersistedValue<i64> }
    /// # async fn pay(amount: i64) -> Result<i64, std::io::Error> { Ok(amount) }
    /// impl Handle<i64> for Payer {
    ///     fn handle(&mut self, amount: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         ctx.spawn("invoice-7".to_owned(), pay(amount)); // an HTTP request, say
    ///         Ok(())
    ///     }
    /// }
    /// # impl Handle<AsyncResult<String, i64>> for Payer {
    /// #     fn handle(&mut self, done: AsyncResult<String, i64>, _: &mut Context<'_, Self>) -> HandlerResult {
    /// #         if let AsyncOutcome::Success(amount) = done.outcome { *self.paid += amount; }
    /// #         Ok(())
    /// #     }
    /// # }
    /// let mut app = Harness::builder().function::<Payer>().build()?;
    /// app.hold_operations().send(Payer::at("bob"), 30).run_until_idle();
    /// app.complete(Payer::at("bob"), |invoice: String| {
    ///     assert_eq!(invoice, "invoice-7");
    ///     AsyncOutcome::Success(29)
    /// });
    /// app.run_until_idle();
    /// assert_eq!(app.state(Payer::at("bob"), |payer| *payer.paid), 29);
    /// # Ok::<(), statefun_core::testing::HarnessError>(())
    /// ```
    ///
    /// # Panics
    /// When none is held that was spawned with metadata `M` and output `O`.
    #[track_caller]
    pub fn complete<F, M, O>(
        &mut self,
        target: Target<F>,
        end: impl FnOnce(M) -> AsyncOutcome<O>,
    ) -> &mut Self
    where
        F: Accepts<AsyncResult<M, O>>,
        M: Message,
        O: Message,
    {
        let to = target.into_address();
        let (index, id, metadata) = or_fail(self.find_held::<M, O>(&to));
        self.operations.held.remove(index);
        let outcome = end(metadata.clone());
        self.worker
            .operation_done(&to, id, Box::new(AsyncResult { metadata, outcome }));
        or_fail(self.note_trace());
        self
    }

    fn find_held<M: Message, O: Message>(
        &mut self,
        to: &Address,
    ) -> Result<(usize, u64, M), HarnessError> {
        self.serve()?;
        for (index, held) in self
            .operations
            .held
            .iter()
            .enumerate()
            .filter(|(_, held)| held.address == *to)
        {
            let unknown = held.unknown.as_any().downcast_ref::<TypedValue>();
            let unknown = unknown.map(TypedValue::to_message::<AsyncResult<M, O>>);
            if let Some(Ok(unknown)) = unknown {
                return Ok((index, held.id, unknown.metadata));
            }
        }
        let held = self
            .operations
            .held
            .iter()
            .map(|held| held.address.clone())
            .collect();
        Err(HarnessError::NoOperation {
            to: to.clone(),
            held,
        })
    }

    pub(super) fn check_function(&self, address: &Address) -> Result<(), HarnessError> {
        if self.registry.function_index(address.function()).is_some() {
            return Ok(());
        }
        let known = self
            .registry
            .functions()
            .iter()
            .map(|function| function.typename.to_string());
        let known = known
            .filter(|name| !name.starts_with("io.statefun/"))
            .collect();
        Err(HarnessError::UnknownFunction {
            name: address.function(),
            known,
        })
    }

    fn check_value(&self, to: &Address, value: &TypedValue) -> Result<(), HarnessError> {
        self.check_function(to)?;
        let problem = |problem| HarnessError::Send {
            to: to.clone(),
            problem,
        };
        self.registry.check_accepts(to, value).map_err(problem)?;
        // A function that takes any value takes it as it is.
        let index = self.registry.function_index(to.function());
        let accepts = index
            .and_then(|index| self.registry.functions().get(index))
            .map(|function| &function.accepts);
        let message = accepts.and_then(|accepts| {
            accepts
                .iter()
                .find(|message| message.type_id == value.type_id())
        });
        match message.map(|message| (message.decode)(&value.value)) {
            Some(Err(problem)) => Err(HarnessError::Undecodable {
                to: to.clone(),
                problem,
            }),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    pub(super) fn post(
        &mut self,
        to: Address,
        from: Option<Address>,
        body: Box<dyn AnyMessage>,
    ) -> Result<(), HarnessError> {
        self.check_function(&to)?;
        let envelope = Envelope { to, from, body };
        if let Some(trace) = &mut self.worker.trace {
            trace.push(TraceEvent::Sent(envelope.clone()));
        }
        self.note_trace()?;
        self.worker.receive(self.worker.epoch(), vec![envelope])?;
        Ok(())
    }
}
