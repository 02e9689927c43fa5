//! How far the application of this process is in its life, for an endpoint that is there before it and after it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::live::Live;

/// How far it is. Shared by those who bring it on and the endpoint that tells.
#[derive(Default)]
pub struct Stage {
    state: RwLock<State>,
    stopping: AtomicBool,
}

#[derive(Clone)]
pub(super) enum State {
    /// What it is doing before it runs.
    Starting(Arc<str>),
    Running(Arc<dyn Live>),
}

impl Default for State {
    fn default() -> Self {
        Self::Starting("start: the application is being put together".into())
    }
}

impl Stage {
    /// It is doing that, and does not run yet.
    pub fn starting(&self, doing: impl fmt::Display) {
        self.enter(State::Starting(doing.to_string().into()));
    }

    /// It has recovered, and all its ingresses run.
    pub fn running(&self, live: Arc<dyn Live>) {
        self.enter(State::Running(live));
    }

    /// It is about to stop.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn get(&self) -> State {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    fn enter(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.get() {
            State::Starting(doing) => doing,
            State::Running(_) => "running".into(),
        };
        f.debug_struct("Stage")
            .field("state", &state)
            .field("stopping", &self.is_stopping())
            .finish()
    }
}
