//! What an application tells while it runs, and commands: HTTP over a Unix socket in the data directory, for whoever may write
//! there, and over TCP at the *operations endpoint*.
//!
//! # Requests
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
//! # The operations endpoint
//!
//! Over TCP there are, beside `/v1/…`:
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | what there is |
//! | `GET /health/live` | [`Liveness`]: 200, or 503 when the process should be replaced |
//! | `GET /health/ready` | [`Health`]: 200, or 503 with what is missing |
//! | `GET /metrics` | what was measured since the start, for Prometheus |
//!
//! It listens at `127.0.0.1:9464`; at another free port when that one is taken, which the start says then. `operations: {listen:
//! "HOST:PORT", token: …}` in statefun.yaml, or `STATEFUN_OPERATIONS_LISTEN` and `STATEFUN_OPERATIONS_TOKEN`, say where it listens
//! instead (`off`: nowhere), and what clients must show. A port that is asked for is had, or the start fails. It speaks plain HTTP:
//! where that is not enough, something in front of it speaks HTTPS.
//!
//! | | `/health/…` | `/`, `/metrics` | `/v1/…` |
//! |---|---|---|---|
//! | with a token | all | `Authorization: Bearer TOKEN`, or 401 | the same |
//! | without, on a loopback address | all | all | all but what a web page may have sent: 403 with an `Origin`, or a `Host` that is not this machine |
//! | without, on another address | all | all | nobody: 403 |
//!
//! **Ready** means that what is sent now is taken in and becomes durable. It is not so
//!
//! - before the application runs: the answer says what is being done, as in `recovery: …` and `ingress shop/orders: …`. All
//!   ingresses run when the start is over; one that cannot go on later ends the process;
//! - while the disk of the epoch log or of the state store is full, or the blob store does not take epochs that `durability: blob`
//!   waits for;
//! - when the epoch log has been at `log.maxBytes` for ten seconds, or the state store that far behind. Under load that happens all
//!   the time for moments, and clients wait meanwhile;
//! - when a handler has blocked its worker for ten seconds: an epoch needs all workers, so nobody's messages become durable;
//! - from the signal that stops the process on, before anything stops; and when the engine has failed.
//!
//! What holds nothing up is among the `notes`: an egress whose receiver does not take what waits for it (a webhook's is somebody else's
//! server), addresses that are parked, checkpoints that fail.
//!
//! **Live** means that another process would do no better. It is so during a restore and a recovery, however long they take, with a
//! full disk, and while the process stops. It is not so when the engine has failed, should the process then not end by itself; nor when a
//! handler has blocked its worker for a quarter of an hour. The next process runs the same message again, so that this helps
//! against handlers that wait for each other, and not against slow ones: those belong into `ctx.spawn`.
//!
//! # In this room
//!
//! [`answer`] knows nothing of sockets: [`AdminServer`] offers it over the Unix socket, [`OperationsServer`] over TCP, where `guard`
//! says who may ask what. A [`Stage`] tells the endpoint how far the application is before and after it runs. What is absent
//! from this room: the engine's threads and its files. It asks by [`Live`] only.

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
