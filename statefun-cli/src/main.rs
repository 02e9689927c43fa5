//! The `statefun` command.

fn main() {}
