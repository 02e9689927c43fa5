//! A profile with `panic = "abort"` is refused when the application is built.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Command, Output};

/// Compiles the module of this crate that refuses it, as cargo would compile the crate.
fn compile(strategy: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/unwinding.rs");
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata"])
        .arg(format!("-Cpanic={strategy}"))
        .arg("--out-dir")
        .arg(folder.path())
        .arg(module)
        .output()
        .unwrap()
}

#[test]
fn aborting_is_refused_with_the_way_out() {
    let refused = compile("abort");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "it compiles");
    for part in ["needs unwinding", "Remove `panic = ", "Cargo.toml"] {
        assert!(said.contains(part), "{said}");
    }
    let taken = compile("unwind");
    assert!(
        taken.status.success(),
        "{}",
        String::from_utf8_lossy(&taken.stderr)
    );
}

#[test]
fn the_crate_has_that_module() {
    let library = include_str!("../src/lib.rs");
    assert!(library.lines().any(|line| line == "mod unwinding;"));
}
