//! What a start is doing, for whoever asks before it has ended.

use std::fmt;
use std::sync::Arc;

/// A step of a start. They come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartStep<'a> {
    /// The state store is opened.
    Store,
    /// The state store merges what former processes have left it, before anything is read.
    Merging,
    /// The tail of the epoch log is read.
    Log,
    /// Epochs of the log are applied to the state store.
    Applying {
        /// The last one that was read for it.
        epoch: u64,
        /// The last one of the log.
        last: u64,
    },
    /// An ingress is opened.
    Ingress(&'a str),
    /// An egress is opened.
    Egress(&'a str),
    /// Egresses find out what they have written already.
    Sinks,
    /// Workers take up what was under way.
    Workers,
}

impl fmt::Display for StartStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("recovery: the state store is being opened"),
            Self::Merging => {
                f.write_str("recovery: the state store merges what former runs have left")
            }
            Self::Log => f.write_str("recovery: the epoch log is being read"),
            Self::Applying { epoch, last } => write!(
                f,
                "recovery: epochs of the log are applied to the state store, {epoch} of {last}"
            ),
            Self::Ingress(id) => write!(f, "ingress {id}: it is being opened"),
            Self::Egress(id) => write!(f, "egress {id}: it is being opened"),
            Self::Sinks => f.write_str("egresses: they find out what they have written already"),
            Self::Workers => f.write_str("workers: they take up what was under way"),
        }
    }
}

/// Hears of the steps of a start. By default nobody does.
#[derive(Clone, Default)]
pub struct StartListener(Option<Arc<dyn Fn(StartStep<'_>) + Send + Sync>>);

impl StartListener {
    /// Calls `hear` for each step.
    pub fn new(hear: impl Fn(StartStep<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    pub(crate) fn tell(&self, step: StartStep<'_>) {
        if let Some(hear) = &self.0 {
            hear(step);
        }
    }
}

impl fmt::Debug for StartListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StartListener")
            .field(&self.0.is_some())
            .finish()
    }
}
