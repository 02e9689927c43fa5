//! Applications must be able to unwind.

#[cfg(panic = "abort")]
compile_error!(
    "statefun needs unwinding: what a panicking handler did is undone, and its message tried again, while everything else \
     goes on; with `panic = \"abort\"` the process would end instead. Remove `panic = \"abort\"` from the profile in \
     Cargo.toml (or `-C panic=abort` from RUSTFLAGS)"
);
