//! Connectors: the traits of ingresses and egresses, and a file per kind.

pub(crate) mod clients;
pub mod egress;
pub mod file;
pub mod http;
pub mod ingress;
pub mod playground;
pub mod stdio;
