//! `io.statefun.file.v1`: records out of and into files, a JSON value or a row of CSV per line.

mod egress;
mod encode;
#[cfg(test)]
mod tests;

pub use egress::FileEgress;
