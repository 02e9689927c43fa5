//! Checkpoints: the state of an application outside its data directory.

pub mod changes;
pub mod run;
