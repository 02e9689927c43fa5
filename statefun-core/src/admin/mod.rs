//! Live commands: HTTP over a Unix socket in the data directory, for whoever may write there.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/metrics` | [`Snapshot`](crate::metrics::Snapshot): what was measured since the start |
//! | `GET /v1/parked?limit=&function=` | [`ParkedList`] |
//! | `GET /v1/parked/show?function=&id=&messages=` | [`ParkedShown`] |
//! | `POST /v1/checkpoint?name=` | the new checkpoint's [`Entry`](crate::checkpoint::manifest::Entry) in the manifest |
//! | `POST /v1/parked/retry?function=&id=`, and `skip`, `drop` | [`ParkedDone`], when it is durable |
//! | `GET /v1/state` | lines: what the state of each function amounts to |
//! | `GET /v1/state/addresses?function=&prefix=&limit=` | lines: the addresses of a function, by id |
//! | `GET /v1/state/get?function=&id=` | lines: all states of an address |
//! | `GET /v1/state/export?function=&prefix=` | lines: all states of all addresses, or some |
//! | `GET /v1/state/top?by=&function=&limit=` | lines: the largest addresses, by `bytes` or `rows` |
//! | `GET /v1/state/rows?function=&prefix=` | lines: the catalog, and the rows that the addresses consist of |
//!
//! Answers in lines are of JSON objects, as [`inspect`](crate::inspect) describes them. They come while they are found, with a
//! [`StateMark`] now and then; the last one is its `end`, or says why there is none. They show the state of one epoch, and
//! all that was acknowledged before the request.
//!
//! Anything else, and what cannot be done, is answered with a [`Problem`]. Fields may be added; a reader passes over those
//! that it does not know.
//!
//! [`answer`] knows nothing of sockets, so that another transport can offer the same requests; [`AdminServer`] is the one
//! over the Unix socket. What is absent from this room: the engine's threads and its files. It asks by [`Live`] only.

mod api;
mod guard;
mod health;
mod live;
mod operations;
mod server;
mod socket;
mod stage;
mod state;
mod tcp;
mod wire;

#[cfg(test)]
mod operations_tests;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;

pub use api::{Reply, answer};
pub use live::{Live, LiveEngine, Making, OPERATIONS, OpenState, Results, SettledState};
pub use server::AdminServer;
pub use socket::{AdminError, connect, socket_path};
pub use stage::Stage;
pub use state::ReplyBody;
pub use tcp::{OperationsError, OperationsServer};
pub use wire::{
    Epochs, Health, ListeningPlace, Liveness, ParkedDone, ParkedList, ParkedShown, Problem,
    StateMark, Status,
};

pub use crate::engine::condition::{Blocked, Condition};
pub use crate::engine::shared::Hold;
pub use crate::engine::waiting::{WaitKind, WaitingAddress};
pub use crate::engine::worker::{Command, CommandError, CommandResult, QueuedMessage};
