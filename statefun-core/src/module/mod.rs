//! module.yaml and what an application says of itself: sources with spans, the model, the checks and the findings.
//!
//! Reading goes in three steps, and each works on what the one before leaves whole, so that all mistakes are found in one
//! pass and each is reported once:
//!
//! 1. [`source`] reads the text into trees of values that know their places, and puts environment variables in.
//! 2. [`Application::load`] checks each document against the [`schema`] of its kind and makes the typed [`model`] of it.
//! 3. [`check()`] proves the wiring: between the documents, and against the code's [`description`].
//!
//! ```
//! use statefun_core::module::{Application, BuildFeatures, Environment, Source, check};
//!
//! let text = "kind: io.statefun.stdio.v1/egress\nspec:\n  id: greetings\n";
//! let (application, findings) = Application::load([Source::text("module.yaml", text)], &Environment::process());
//! let findings = findings.and(check(&application, None, &BuildFeatures::compiled()));
//! assert_eq!(findings.iter().map(|finding| finding.code.id).collect::<Vec<_>>(), ["SF0211"]);
//! ```
//!
//! What is absent from this room: threads, sockets, tokio, the engine. Only [`Application::load`] touches the file system.

mod application;
mod check;
pub mod codes;
pub mod description;
pub mod finding;
pub mod graph;
mod lower;
pub mod model;
mod reference;
pub mod render;
pub mod schema;
pub mod source;
pub mod suggest;
mod traps;
pub mod units;

pub use application::{Application, Component};
pub use check::{BuildFeatures, ReservedPort, check, check_reserved_ports};
pub use codes::Code;
pub use finding::{Finding, Findings, Label, Severity};
pub use graph::Graph;
pub use model::{GlobalConfiguration, Spec};
pub use reference::reference;
pub use source::{Environment, FileId, Source, Sources, Span, Variable};
