//! Checkpoints: the state of an application outside its data directory.

pub mod run;
