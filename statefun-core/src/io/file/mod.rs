//! `io.statefun.file.v1`: records out of and into files, a JSON value or a row of CSV per line.

mod behind;
mod csv;
mod egress;
pub(crate) mod encode;
pub(crate) mod feed;
pub(crate) mod follower;
pub(crate) mod frames;
mod ingress;
mod json;
mod mark;
pub(crate) mod records;
mod rotation;
mod rows;
#[cfg(test)]
mod tests;
mod traced;

pub use egress::FileEgress;
pub use ingress::FileIngress;
pub(crate) use ingress::MOST_BYTES;
