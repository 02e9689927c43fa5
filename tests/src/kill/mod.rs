//! What the tests share that kill and damage real processes: the application as a process, a client, and the model of what
//! must come out.

pub mod client;
pub mod files;
pub mod model;
pub mod plan;
pub mod process;
pub mod world;
