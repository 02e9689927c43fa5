//! Live commands: HTTP over a Unix socket in the data directory, for whoever may write there.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/parked?limit=&function=` | [`ParkedList`] |
//! | `GET /v1/parked/show?function=&id=&messages=` | [`ParkedShown`] |
//! | `POST /v1/checkpoint?name=` | the new checkpoint's [`Entry`](crate::checkpoint::manifest::Entry) in the manifest |
//! | `POST /v1/parked/retry?function=&id=`, and `skip`, `drop` | [`ParkedDone`], when it is durable |
//!
//! Anything else, and what cannot be done, is answered with a [`Problem`]. Fields may be added; a reader passes over those
//! that it does not know.
//!
//! [`answer`] knows nothing of sockets, so that another transport can offer the same requests; [`AdminServer`] is the one
//! over the Unix socket. What is absent from this room: the engine's threads and its files. It asks by [`Live`] only.

mod api;
mod live;
mod server;
mod socket;
mod wire;

#[cfg(test)]
mod tests;

pub use api::{Reply, answer};
pub use live::{Live, LiveEngine, Making, Results};
pub use server::AdminServer;
pub use socket::{AdminError, connect, socket_path};
pub use wire::{Epochs, ListeningPlace, ParkedDone, ParkedList, ParkedShown, Problem, Status};

pub use crate::engine::waiting::{WaitKind, WaitingAddress};
pub use crate::engine::worker::{Command, CommandError, CommandResult, QueuedMessage};
