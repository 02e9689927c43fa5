//! The formats of the epoch log and of checkpoints, as `statefun-core/FORMAT.md` tells them.
//!
//! A reader in another language, `tests/format/read_checkpoint.py`, goes by that page and nothing else; here it reads what the
//! engine writes. And what earlier versions have written is read by this one: see [`fixtures`].

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod app;
mod fixtures;
mod python;
mod world;
