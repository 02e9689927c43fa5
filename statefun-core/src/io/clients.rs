//! Outside clients that wait: for their record to be durable, or for a function's reply.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use compact_str::CompactString;
use tokio::sync::oneshot;

use crate::engine::request::{Answer, ClientResponse};
use crate::rand::Random;

/// The connections of this process that wait for a request's answer, by the request's id.
#[derive(Debug)]
pub(crate) struct Clients {
    waiting: Mutex<HashMap<CompactString, Vec<Waiting>>>,
    connections: AtomicU64,
}

impl Default for Clients {
    /// Connections are numbered from a number of chance: a request that a cut carried over a restart is answered under
    /// its connection's number, which must not be one of this process.
    fn default() -> Self {
        let first = Random::from_system().next_u64() >> 1;
        Self { waiting: Mutex::default(), connections: AtomicU64::new(first) }
    }
}

#[derive(Debug)]
struct Waiting {
    connection: u64,
    answer: oneshot::Sender<Answer>,
}

impl Clients {
    fn waiting(&self) -> MutexGuard<'_, HashMap<CompactString, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection wait for a request's answer. Returns the connection's number, for `Request::connection`.
    pub(crate) fn wait(&self, request: &str) -> (u64, oneshot::Receiver<Answer>) {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        self.waiting().entry(request.into()).or_default().push(Waiting { connection, answer });
        (connection, receiver)
    }

    /// Lets a connection wait no longer.
    pub(crate) fn forget(&self, request: &str, connection: u64) {
        let mut waiting = self.waiting();
        if let Some(connections) = waiting.get_mut(request) {
            connections.retain(|known| known.connection != connection);
            if connections.is_empty() {
                waiting.remove(request);
            }
        }
    }

    /// Passes on an answer whose epoch is durable.
    pub(crate) fn answer(&self, response: ClientResponse) {
        let mut waiting = self.waiting();
        let Some(connections) = waiting.get_mut(&response.request) else { return };
        let told: Vec<Waiting> = match response.connection {
            None => std::mem::take(connections),
            Some(one) => {
                let (told, others) = std::mem::take(connections).into_iter().partition(|known| known.connection == one);
                *connections = others;
                told
            }
        };
        if connections.is_empty() {
            waiting.remove(&response.request);
        }
        drop(waiting);
        for client in told {
            // Whoever went away needs no answer.
            let _ = client.answer.send(response.answer.clone());
        }
    }
}
