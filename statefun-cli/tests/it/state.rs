//! `statefun state`, against a real application: this program plays it in a process of its own.

pub(crate) mod app;
mod checkpoints;
mod importing;
mod kept;
mod live;
mod offline;
