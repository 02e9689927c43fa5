//! `Ingress`: where records come from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use thiserror::Error;

use crate::clock::Timestamp;
use crate::engine::registry::check_size;
use crate::id::{Address, MessageTypeId, TypeName};
use crate::io::http::Unreadable;
pub use crate::metrics::Lag;
use crate::sdk::context::SendError;
use crate::sdk::message::{AnyMessage, CodecError, Message, MessageDefinition, Taken, TypedValue};
use crate::trace::{TraceContext, TraceParent, Tracer};

/// An ingress that cannot go on. The process stops with this error; records that were not admitted are not acknowledged.
#[derive(Debug, Error)]
#[error("ingress `{ingress}`: {problem}")]
pub struct IngressError {
    /// The ingress' id.
    pub ingress: String,
    /// What is wrong, and how to mend it.
    pub problem: String,
}

/// A source of records. An author's own is bound with `Binder::ingress`; those of module.yaml implement the same trait.
///
/// An ingress consists of partitions. Each is polled by one worker, on that worker's thread, and so must not block;
/// what needs to wait runs elsewhere and hands its records over through a bounded [`channel`]. The position of the last
/// admitted record of each named partition is part of every cut: after a restart the ingress is opened with the
/// positions of the cut, and must continue right behind them.
///
/// One whose records come from elsewhere at their own pace, reads bytes, and acknowledges what has become durable:
///
/// ```
/// use statefun_core::io::ingress::*;
/// # use statefun_core::prelude::*;
/// # use statefun_core::sdk::message::MessageDefinition;
/// # use std::sync::mpsc::{Receiver, Sender, channel as pipe};
///
/// /// Texts of another thread, with the way to tell it what was taken.
/// struct Texts {
///     texts: Option<Receiver<String>>,
///     taken: Sender<AckOutcome>,
/// }
///
/// impl Ingress for Texts {
///     fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
///         let texts = self.texts.take().ok_or_else(|| context.error("it is open already"))?;
///         let worker = 0; // without a position to return to, any will do
///         let (records, source) = channel(64, context.waker(worker));
///         let (decoder, taken) = (context.decoder.clone(), self.taken.clone());
///         std::thread::spawn(move || {
///             for text in texts {
///                 let bytes = bytes::Bytes::from(text);
///                 let value = decoder.decode("example/Reading", bytes.clone());
///                 let value = value.map_err(|error| BadRecord { bytes, problem: error.to_string() });
///                 let taken = taken.clone();
///                 let ack = Ack::new(move |outcome| drop(taken.send(outcome)));
///                 if records.blocking_send(Record::of(value).with_key("attic").with_ack(ack)).is_err() {
///                     break; // the application is stopping
///                 }
///             }
///         });
///         Ok(vec![Partition { name: None, worker, source: Box::new(source) }])
///     }
/// }
/// # #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
/// # #[message(typename = "example/Reading")]
/// # struct Reading { degrees: i64 }
///
/// // A test of it; `Binder::ingress` binds it.
/// let runtime = tokio::runtime::Runtime::new().unwrap();
/// let (mut context, _stop) = IngressContext::for_tests("example/texts", runtime.handle());
/// context.decoder = Decoder::new([MessageDefinition::of::<Reading>()]);
/// let ((into, texts), (taken, _)) = (pipe(), pipe());
/// let mut partitions = Texts { texts: Some(texts), taken }.open(&context).unwrap();
/// into.send(r#"{"degrees": 21}"#.to_owned()).unwrap();
/// into.send("warm".to_owned()).unwrap();
/// let mut records = Vec::new();
/// while records.len() < 2 {
///     partitions[0].source.poll(16, &mut records).unwrap();
/// }
/// let read = records[0].value.as_ref().unwrap();
/// assert_eq!(read.downcast_ref::<Reading>(), Some(&Reading { degrees: 21 }));
/// let bad = records[1].value.as_ref().unwrap_err();
/// assert_eq!(bad.bytes, "warm"); // the ingress' `onError` decides what becomes of it
/// ```
pub trait Ingress: Send {
    /// Opens it, and returns its partitions.
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError>;
}

/// One partition of an ingress.
pub struct Partition {
    /// Its name, under which its position is kept; none when it has no position to return to (HTTP).
    pub name: Option<String>,
    /// The worker that polls it: [`IngressContext::owner`] of its name, or any for one without a name.
    pub worker: usize,
    /// Its records.
    pub source: Box<dyn Source>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("name", &self.name)
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

/// The records of one partition, in order.
pub trait Source: Send {
    /// Puts up to `limit` records into `batch`, and says how it goes on. Must not block.
    fn poll(&mut self, limit: usize, batch: &mut Vec<Record>)
    -> Result<SourceStatus, IngressError>;

    /// What is there and has not been polled yet, as far as the source can tell without waiting. Asked for now and then.
    fn lag(&mut self) -> Option<Lag> {
        None
    }
}

/// What a source will have next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// More, perhaps at once.
    Ready,
    /// Nothing until its waker is called.
    Idle,
    /// Nothing until so long from now.
    After(Duration),
    /// Nothing, ever again.
    Finished,
}

/// One record on its way in.
#[derive(Debug)]
pub struct Record {
    /// Its key, as text: the id of the targets that module.yaml names.
    pub key: Option<CompactString>,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// When it was made, by the ingress' account.
    pub timestamp: Timestamp,
    /// Its value, or what could not be read as one.
    pub value: Result<RecordValue, Box<BadRecord>>,
    /// Where the partition continues behind it; opaque to the engine.
    pub position: Option<Bytes>,
    /// Who is told when it is durable.
    pub ack: Option<Ack>,
    /// The one address that it is for, where the record itself names it; module.yaml's targets and routers otherwise.
    pub target: Option<Box<Address>>,
    pub(crate) trace: Option<Box<TraceParent>>,
}

impl Record {
    /// A record of that value, with nothing else known of it.
    pub fn new<M: Message>(value: M) -> Self {
        Self::of(Ok(RecordValue(Box::new(value))))
    }

    /// A record of bytes that a [`Decoder`] has read, or could not.
    pub fn of(value: Result<RecordValue, BadRecord>) -> Self {
        Self {
            key: None,
            headers: BTreeMap::new(),
            timestamp: Timestamp::default(),
            value: value.map_err(Box::new),
            position: None,
            ack: None,
            target: None,
            trace: None,
        }
    }

    /// Takes its value out.
    pub(crate) fn take_value(&mut self) -> Result<RecordValue, Box<BadRecord>> {
        std::mem::replace(&mut self.value, Ok(RecordValue(Box::new(Taken))))
    }

    /// With a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<CompactString>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With the position behind it.
    #[must_use]
    pub fn with_position(mut self, position: impl Into<Bytes>) -> Self {
        self.position = Some(position.into());
        self
    }

    /// As part of a trace: the span that it comes from. Where its trace is recorded, it is recorded here, too.
    #[must_use]
    pub fn with_trace(mut self, parent: TraceContext) -> Self {
        self.trace = Some(Box::new(TraceParent::Remote(parent)));
        self
    }

    /// With someone to be told when it is durable.
    #[must_use]
    pub fn with_ack(mut self, ack: Ack) -> Self {
        self.ack = Some(ack);
        self
    }
}

/// A decoded value.
pub struct RecordValue(pub(crate) Box<dyn AnyMessage>);

impl RecordValue {
    /// The value, if it is an `M`.
    pub fn downcast_ref<M: Message>(&self) -> Option<&M> {
        self.0.as_any().downcast_ref()
    }
}

impl fmt::Debug for RecordValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.message_type_name())
    }
}

/// Bytes that are not of the declared type; the ingress' `onError` policy decides what becomes of them.
#[derive(Debug, Clone)]
pub struct BadRecord {
    /// The bytes as they came.
    pub bytes: Bytes,
    /// What is wrong with them, and where (file, line and column; topic and offset).
    pub problem: String,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AckOutcome {
    /// Its epoch is durable: it will take effect exactly once.
    Durable,
    /// It was not admitted: a router failed, or a queue is at its limit.
    Refused(String),
}

/// Told once what became of a record; dropped untold when the process stops before that.
pub struct Ack(Box<dyn FnOnce(AckOutcome) + Send>);

impl Ack {
    /// Calls `done`, on a thread of the engine; it must not block.
    pub fn new(done: impl FnOnce(AckOutcome) + Send + 'static) -> Self {
        Self(Box::new(done))
    }

    pub(crate) fn tell(self, outcome: AckOutcome) {
        (self.0)(outcome);
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ack")
    }
}

/// Wakes the worker that polls a partition.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes it, if it sleeps.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// Reads bytes as the message types that the application knows.
#[derive(Debug, Clone)]
pub struct Decoder {
    messages: Arc<BTreeMap<MessageTypeId, MessageDefinition>>,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new([])
    }
}

impl Decoder {
    /// One that knows these types: `Decoder::new([MessageDefinition::of::<Order>()])`.
    pub fn new(messages: impl IntoIterator<Item = MessageDefinition>) -> Self {
        Self {
            messages: Arc::new(
                messages
                    .into_iter()
                    .map(|message| (message.type_id, message))
                    .collect(),
            ),
            limit: usize::MAX,
        }
    }

    /// Refuses values of more than so many bytes.
    #[must_use]
    pub(crate) fn with_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Whether a value of so many bytes is refused, and why: the functions that the ingress names as its targets take no
    /// larger ones (`max_message_bytes`).
    pub fn refuses(&self, bytes: usize) -> Option<String> {
        (bytes > self.limit).then(|| {
            format!(
                "the record has {bytes} bytes, and a target of this ingress takes {} at most: \
                 send less, or raise the function's `max_message_bytes`",
                self.limit
            )
        })
    }

    /// Reads bytes as the type of that name. A type that no Rust code of the application declares stays a [`TypedValue`].
    pub fn decode(&self, type_name: &str, bytes: Bytes) -> Result<RecordValue, CodecError> {
        if let Some(problem) = self.refuses(bytes.len()) {
            return Err(CodecError::new(type_name, problem));
        }
        match self.messages.get(&MessageTypeId::of_name(type_name)) {
            Some(message) => Ok(RecordValue((message.decode)(&bytes)?)),
            None => Ok(RecordValue(Box::new(TypedValue {
                typename: type_name.into(),
                value: bytes,
            }))),
        }
    }

    /// What the application knows of the type of that name.
    pub fn definition(&self, type_name: &str) -> Option<&MessageDefinition> {
        self.messages.get(&MessageTypeId::of_name(type_name))
    }
}

/// What an ingress is opened with.
#[derive(Debug)]
pub struct IngressContext {
    /// Its id.
    pub id: String,
    /// How many workers there are.
    pub workers: usize,
    /// The position behind the last admitted record of each named partition, by name; empty at the very first start.
    pub positions: BTreeMap<String, Bytes>,
    /// Reads bytes as message types.
    pub decoder: Decoder,
    /// Where asynchronous work runs.
    pub runtime: tokio::runtime::Handle,
    /// Turns true when the process is stopping.
    pub stopping: tokio::sync::watch::Receiver<bool>,
    /// Is true while the disk is full: nothing is taken in then.
    pub full: tokio::sync::watch::Receiver<bool>,
    pub(crate) clients: Arc<crate::io::clients::Clients>,
    pub(crate) wakers: Vec<Waker>,
    /// How addresses, and so partitions and requests, are spread over the workers.
    pub(crate) key_groups: crate::id::KeyGroups,
    pub(crate) limits: MessageLimits,
    /// Counts what cannot become a record.
    pub(crate) unreadable: Unreadable,
    pub(crate) tracer: Option<Tracer>,
}

/// The largest message of each function.
#[derive(Debug, Clone, Default)]
pub(crate) struct MessageLimits(Arc<BTreeMap<TypeName, usize>>);

impl FromIterator<(TypeName, usize)> for MessageLimits {
    fn from_iter<I: IntoIterator<Item = (TypeName, usize)>>(limits: I) -> Self {
        Self(Arc::new(limits.into_iter().collect()))
    }
}

impl MessageLimits {
    /// Whether a function takes a message of so many bytes.
    pub(crate) fn check(&self, function: TypeName, bytes: usize) -> Result<(), SendError> {
        let limit = self.0.get(&function).copied().unwrap_or(usize::MAX);
        check_size(function.as_str(), limit, bytes)
    }
}

impl IngressContext {
    /// A context for tests of an ingress: one worker, no positions, and a decoder that knows no types; all of them can be
    /// set. Sending `true` says that the process is stopping.
    ///
    /// ```
    /// # use statefun_core::io::ingress::*;
    /// # use statefun_core::sdk::message::MessageDefinition;
    /// # struct Counter;
    /// # struct Numbers(i64);
    /// # impl Ingress for Counter {
    /// #     fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
    /// #         let first = context.positions.get("numbers").map_or(0, |position| position[0].into());
    /// #         let source = Box::new(Numbers(first));
    /// #         Ok(vec![Partition { name: Some("numbers".to_owned()), worker: context.owner("numbers"), source }])
    /// #     }
    /// # }
    /// # impl Source for Numbers {
    /// #     fn poll(&mut self, _: usize, batch: &mut Vec<Record>) -> Result<SourceStatus, IngressError> {
    /// #         self.0 += 1;
    /// #         batch.push(Record::new(self.0).with_position(vec![self.0 as u8]));
    /// #         Ok(SourceStatus::Ready)
    /// #     }
    /// # }
    /// let runtime = tokio::runtime::Runtime::new().unwrap();
    /// let (mut context, _stop) = IngressContext::for_tests("example/numbers", runtime.handle());
    /// context.positions.insert("numbers".to_owned(), vec![7].into());
    /// context.decoder = Decoder::new([MessageDefinition::of::<i64>()]);
    ///
    /// let mut partitions = Counter.open(&context).unwrap();
    /// let mut batch = Vec::new();
    /// partitions[0].source.poll(1, &mut batch).unwrap();
    /// let value = batch[0].value.as_ref().unwrap();
    /// assert_eq!(value.downcast_ref::<i64>(), Some(&8));
    /// assert_eq!(batch[0].position.as_deref(), Some(&[8][..]));
    /// ```
    pub fn for_tests(
        id: &str,
        runtime: &tokio::runtime::Handle,
    ) -> (Self, tokio::sync::watch::Sender<bool>) {
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let context = Self {
            id: id.to_owned(),
            workers: 1,
            positions: BTreeMap::new(),
            decoder: Decoder::default(),
            runtime: runtime.clone(),
            stopping,
            full: tokio::sync::watch::channel(false).1,
            clients: Arc::default(),
            wakers: Vec::new(),
            key_groups: crate::id::KeyGroups::default(),
            limits: MessageLimits::default(),
            unreadable: Unreadable::default(),
            tracer: None,
        };
        (context, stop)
    }

    /// The worker that keeps the position of the partition of that name, and so must poll it.
    pub fn owner(&self, partition: &str) -> usize {
        self.owner_of(&crate::engine::worker::partition_address(
            &self.id, partition,
        ))
    }

    /// The worker that owns an address.
    pub fn owner_of(&self, address: &Address) -> usize {
        self.key_groups
            .owner(address.key_group(self.key_groups), self.workers)
    }

    /// What wakes a worker; pass it to [`channel`].
    pub fn waker(&self, worker: usize) -> Waker {
        self.wakers
            .get(worker)
            .cloned()
            .unwrap_or_else(|| Waker::new(|| ()))
    }

    /// An error of this ingress.
    pub fn error(&self, problem: impl fmt::Display) -> IngressError {
        IngressError {
            ingress: self.id.clone(),
            problem: problem.to_string(),
        }
    }
}

/// A bounded channel from a task or thread of the ingress' own to the worker that polls its partition.
pub fn channel(capacity: usize, waker: Waker) -> (RecordSender, impl Source) {
    let (sender, receiver) = tokio::sync::mpsc::channel(capacity);
    (RecordSender { sender, waker }, ChannelSource { receiver })
}

/// The sending half of [`channel`].
#[derive(Debug, Clone)]
pub struct RecordSender {
    sender: tokio::sync::mpsc::Sender<Result<Record, IngressError>>,
    waker: Waker,
}

/// The worker no longer polls the partition: the process is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the application is stopping")]
pub struct Stopping;

/// The channel is full, or its worker has gone.
#[derive(Debug)]
pub enum TrySendError {
    /// The worker has not admitted what was sent before; the record comes back.
    Full(Box<Record>),
    /// The process is stopping.
    Stopping,
}

impl RecordSender {
    /// Sends a record, waiting while the channel is full.
    pub async fn send(&self, record: Record) -> Result<(), Stopping> {
        self.sender.send(Ok(record)).await.map_err(|_| Stopping)?;
        self.waker.wake();
        Ok(())
    }

    /// Sends a record from a thread, waiting while the channel is full.
    pub fn blocking_send(&self, record: Record) -> Result<(), Stopping> {
        self.sender
            .blocking_send(Ok(record))
            .map_err(|_| Stopping)?;
        self.waker.wake();
        Ok(())
    }

    /// Sends a record, unless the channel is full.
    pub fn try_send(&self, record: Record) -> Result<(), TrySendError> {
        use tokio::sync::mpsc::error::TrySendError as Full;
        self.sender
            .try_send(Ok(record))
            .map_err(|error| match error {
                Full::Full(Ok(record)) => TrySendError::Full(Box::new(record)),
                Full::Full(Err(_)) | Full::Closed(_) => TrySendError::Stopping,
            })?;
        self.waker.wake();
        Ok(())
    }

    /// Ends the ingress, and the process, with an error.
    pub fn fail(&self, error: IngressError) {
        // When the channel is full the worker polls soon; when it is closed the process stops anyway.
        let mut error = Err(error);
        while let Err(tokio::sync::mpsc::error::TrySendError::Full(back)) =
            self.sender.try_send(error)
        {
            error = back;
            std::thread::yield_now();
        }
        self.waker.wake();
    }
}

struct ChannelSource {
    receiver: tokio::sync::mpsc::Receiver<Result<Record, IngressError>>,
}

impl Source for ChannelSource {
    fn lag(&mut self) -> Option<Lag> {
        Some(Lag::Records(self.receiver.len() as u64))
    }

    fn poll(
        &mut self,
        limit: usize,
        batch: &mut Vec<Record>,
    ) -> Result<SourceStatus, IngressError> {
        use tokio::sync::mpsc::error::TryRecvError;
        for _ in 0..limit {
            match self.receiver.try_recv() {
                Ok(record) => batch.push(record?),
                Err(TryRecvError::Empty) => return Ok(SourceStatus::Idle),
                Err(TryRecvError::Disconnected) => return Ok(SourceStatus::Finished),
            }
        }
        Ok(SourceStatus::Ready)
    }
}
