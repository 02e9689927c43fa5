//! What is told of states that lines have made.

mod diffs;
mod imports;
mod lists;
pub(crate) mod shop;
mod values;
