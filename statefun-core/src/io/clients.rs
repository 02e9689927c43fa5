//! Outside clients that wait: for their record to be durable, or for a function's reply.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use compact_str::CompactString;
use tokio::sync::oneshot;

use crate::engine::request::{Answer, ClientResponse, Recipients};
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
        Self {
            waiting: Mutex::default(),
            connections: AtomicU64::new(first),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    connection: u64,
    fingerprint: u64,
    answer: oneshot::Sender<Answer>,
}

impl Clients {
    fn waiting(&self) -> MutexGuard<'_, HashMap<CompactString, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection wait for the answer to a request of that id and `Request::fingerprint`. Returns the connection's
    /// number, for `Request::connection`.
    pub(crate) fn wait(&self, request: &str, fingerprint: u64) -> (u64, oneshot::Receiver<Answer>) {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        self.waiting()
            .entry(request.into())
            .or_default()
            .push(Waiting {
                connection,
                fingerprint,
                answer,
            });
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

    /// Connections numbered from here on, as another process' might be by chance.
    #[cfg(test)]
    pub(crate) fn numbered_from(first: u64) -> Self {
        Self {
            waiting: Mutex::default(),
            connections: AtomicU64::new(first),
        }
    }

    /// How many requests someone waits for.
    #[cfg(test)]
    pub(crate) fn waiting_for_test(&self) -> usize {
        self.waiting().len()
    }

    /// Passes on an answer whose epoch is durable.
    pub(crate) fn answer(&self, response: ClientResponse) {
        let mut waiting = self.waiting();
        let Some(connections) = waiting.get_mut(&response.request) else {
            return;
        };
        let is_meant = |known: &Waiting| match response.to {
            Recipients::Connection(one) => known.connection == one,
            Recipients::Waiting { fingerprint } => {
                fingerprint.is_none_or(|of| of == known.fingerprint)
            }
        };
        let (told, others): (Vec<Waiting>, _) =
            std::mem::take(connections).into_iter().partition(is_meant);
        *connections = others;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdk::message::TypedValue;

    #[test]
    fn replies_reach_those_that_made_the_same_request() {
        let clients = Clients::default();
        let (one, mut first) = clients.wait("k", 1);
        let (_, mut same) = clients.wait("k", 1);
        let (other, mut another) = clients.wait("k", 2);
        let (_, mut elsewhere) = clients.wait("other", 1);
        let reply = Answer::Reply(TypedValue {
            typename: "a/b".into(),
            value: "x".into(),
        });
        let answer = |to, answer: &Answer| {
            clients.answer(ClientResponse {
                request: "k".into(),
                to,
                answer: answer.clone(),
            });
        };
        answer(Recipients::Connection(one), &Answer::Accepted);
        assert_eq!(first.try_recv(), Ok(Answer::Accepted));
        answer(
            Recipients::Waiting {
                fingerprint: Some(1),
            },
            &reply,
        );
        assert_eq!(same.try_recv(), Ok(reply.clone()));
        assert!(
            another.try_recv().is_err(),
            "it is another message under the same key"
        );
        answer(Recipients::Connection(other), &Answer::KeyReused);
        assert_eq!(another.try_recv(), Ok(Answer::KeyReused));
        assert!(elsewhere.try_recv().is_err());
        let (_, mut keyless) = clients.wait("k", 3);
        answer(Recipients::Waiting { fingerprint: None }, &reply);
        assert_eq!(keyless.try_recv(), Ok(reply));
        assert_eq!(clients.waiting_for_test(), 1);
    }

    #[test]
    fn numbers_of_connections_are_those_of_one_process() {
        let (one, other) = (Clients::default(), Clients::default());
        assert_ne!(one.wait("k", 1).0, other.wait("k", 1).0);
    }
}
