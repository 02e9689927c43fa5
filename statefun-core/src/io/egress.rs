//! `Egress`: where records leave the application.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::io::ingress::Ack;
use crate::trace::TraceContext;

/// A sink that could not take records.
#[derive(Debug, Error)]
#[error("egress `{egress}`: {problem}")]
pub struct EgressError {
    /// The egress' id.
    pub egress: String,
    /// What is wrong, and how to mend it.
    pub problem: String,
    /// Whether trying again may help; when not, the process stops.
    pub transient: bool,
}

/// A sink of records. An author's own is bound with `Binder::egress`; those of module.yaml implement the same trait.
///
/// It is called on a thread of its own, so it may block. Records come in one total order (epoch, worker, sequence), each
/// only when its epoch is durable. After a crash, all records behind the last position that [`flush`](Self::flush)
/// returned, and the engine has logged, come again in the same order: a sink that can tell which of them it has is
/// exactly-once; another is at-least-once.
///
/// ```
/// # use statefun_core::prelude::*;
/// use bytes::Bytes;
/// use statefun_core::io::egress::{Egress, EgressContext, EgressError, EgressRecord};
/// # use std::sync::mpsc::{Receiver, Sender, channel};
///
/// /// Passes texts to another thread.
/// struct Texts {
///     id: String,
///     out: Sender<String>,
/// }
///
/// impl Egress for Texts {
///     fn open(&mut self, context: &EgressContext) -> Result<(), EgressError> {
///         self.id.clone_from(&context.id);
///         Ok(())
///     }
///
///     fn deliver(&mut self, _epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
///         for record in records {
///             let problem = |problem: String| EgressError {
///                 egress: self.id.clone(),
///                 problem,
///                 transient: false, // true: the same records come again after a pause
///             };
///             let text = String::decode(&record.payload).map_err(|error| problem(error.to_string()))?;
///             self.out.send(text).map_err(|_| problem("nobody reads it any more".to_owned()))?;
///         }
///         Ok(())
///     }
///
///     fn flush(&mut self) -> Result<Bytes, EgressError> {
///         Ok(Bytes::new()) // there is no position to return to: after a crash, records come twice
///     }
/// }
///
/// // A test of it; `Binder::egress` binds it.
/// let runtime = tokio::runtime::Runtime::new().unwrap();
/// let (context, _stop) = EgressContext::for_tests("example/texts", runtime.handle());
/// let (out, texts) = channel();
/// let mut egress = Texts { id: String::new(), out };
/// egress.open(&context).unwrap();
/// let record = EgressRecord {
///     worker: 0,
///     sequence: 0,
///     typename: String::type_name(),
///     payload: TypedValue::from_message(&"hi".to_owned()).unwrap().value,
///     trace: None,
/// };
/// egress.deliver(1, &[record.clone()]).unwrap();
/// egress.flush().unwrap();
/// assert_eq!(texts.recv().unwrap(), "hi");
/// drop(texts);
/// assert!(egress.deliver(2, &[record]).unwrap_err().to_string().contains("`example/texts`: nobody reads"));
/// ```
pub trait Egress: Send {
    /// Opens it.
    fn open(&mut self, context: &EgressContext) -> Result<(), EgressError>;

    /// Takes the records of one epoch. When it fails with a transient error, it is called again with the same records.
    fn deliver(&mut self, epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError>;

    /// Makes everything delivered so far safe, and returns the position behind it: what a restart continues from.
    /// Called when there is nothing to deliver, now and then under load, and before a clean stop.
    fn flush(&mut self) -> Result<Bytes, EgressError>;

    /// Whether something was found when it was opened that may not be its own, which only what is delivered again can tell.
    /// Then the application is not ready, and runs nothing, before [`replayed`](Self::replayed) has returned.
    fn is_in_doubt(&self) -> bool {
        false
    }

    /// Called once after a restart, when all that was released before it has been delivered again.
    fn replayed(&mut self) -> Result<(), EgressError> {
        Ok(())
    }
}

/// What an egress is opened with.
#[derive(Debug)]
pub struct EgressContext {
    /// Its id.
    pub id: String,
    /// What [`Egress::flush`] returned last, as far as it is logged; none at the very first start, or when it was empty.
    pub position: Option<Bytes>,
    /// The lineage of the data directory: epochs of another lineage are others.
    pub lineage: u64,
    /// Whether the position is that of a checkpoint from which the data directory was restored, and nothing has been accepted since:
    /// what it tells of may have been lost with another machine, or there may be more than it tells of.
    pub restored: bool,
    /// Where asynchronous work runs.
    pub runtime: tokio::runtime::Handle,
    /// Turns true when the process is stopping.
    pub stopping: tokio::sync::watch::Receiver<bool>,
}

impl EgressContext {
    /// A context for tests of an egress: no position, and lineage 1; both can be set. Sending `true` says that the process
    /// is stopping.
    pub fn for_tests(
        id: &str,
        runtime: &tokio::runtime::Handle,
    ) -> (Self, tokio::sync::watch::Sender<bool>) {
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let context = Self {
            id: id.to_owned(),
            position: None,
            lineage: 1,
            restored: false,
            runtime: runtime.clone(),
            stopping,
        };
        (context, stop)
    }

    /// An error after which the process stops.
    pub fn fatal(&self, problem: impl fmt::Display) -> EgressError {
        EgressError {
            egress: self.id.clone(),
            problem: problem.to_string(),
            transient: false,
        }
    }
}

/// One record on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRecord {
    /// The worker that wrote it.
    pub worker: u32,
    /// Its number among that worker's records of the epoch.
    pub sequence: u32,
    /// The type's name, where the application declares it.
    pub typename: &'static str,
    /// The encoded value.
    pub payload: Bytes,
    /// Its own span, for whoever receives it, where its trace is recorded. It is the same each time that the record comes.
    pub trace: Option<Box<TraceContext>>,
}

/// A record that the receiver behind an egress refuses for good.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// The record, as it would have left.
    pub(crate) record: EgressRecord,
    /// What the receiver said.
    pub(crate) reason: String,
    /// Told when the record is durable as one of the other egress. Until then the egress that gave it up does not count
    /// it as delivered.
    pub(crate) done: Ack,
}

/// The way from an egress to the one that takes its dead letters.
///
/// A dead letter does not go from sink to sink: it becomes a record of the other egress in the current epoch of a worker,
/// and leaves when that epoch is durable, in the other egress' one total order. After a crash it may do so again.
#[derive(Clone)]
pub(crate) struct DeadLetters(Arc<dyn Fn(DeadLetter) + Send + Sync>);

impl DeadLetters {
    /// `take` passes a dead letter to a worker. It must not block, nor wait for the egress that calls it.
    pub(crate) fn new(take: impl Fn(DeadLetter) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Gives up a record.
    pub(crate) fn send(&self, record: EgressRecord, reason: String, done: Ack) {
        (self.0)(DeadLetter {
            record,
            reason,
            done,
        });
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadLetters")
    }
}
