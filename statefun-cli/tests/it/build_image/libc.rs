//! musl, and glibc where musl does not go.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::{build, built, project};
use crate::support::{Files, Output};

/// A build script that makes static linking fail.
const NO_MUSL: &str = r#"
fn main() {
    if std::env::var("TARGET").is_ok_and(|target| target.ends_with("musl")) {
        println!("cargo::rustc-link-arg=-lthere-is-no-such-library");
    }
}
"#;

/// Whether static binaries can be built here.
fn has_musl() -> bool {
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let found = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", &triple])
        .output()
        .unwrap();
    let libraries = String::from_utf8(found.stdout).unwrap();
    let compiler = Command::new("musl-gcc").arg("--version").output();
    Path::new(libraries.trim()).is_dir() && compiler.is_ok()
}

#[test]
fn with_glibc_it_has_the_libraries_that_it_needs() {
    let (_, image) = built(&project(), &["--libc", "glibc"]);
    let library = |name: &str| {
        let paths = image.paths();
        paths.iter().filter(|path| path.ends_with(name)).count()
    };
    assert_eq!(library("/libc.so.6"), 1, "{:?}", image.paths());
    assert_eq!(image.layers.len(), 4);
    // They are all that it takes.
    let root = tempfile::tempdir().unwrap();
    image.unpack(root.path());
    let output = Command::new("chroot")
        .arg(root.path())
        .args(["/app/fake-app", "describe"])
        .output();
    match output {
        Ok(output) if output.status.success() => assert!(!output.stdout.is_empty()),
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("not permitted") => {
            println!("SKIPPED: running it, since this user may not change the root directory");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn with_musl_it_has_one_file_that_needs_nothing() {
    if !has_musl() {
        println!(
            "SKIPPED: there is no musl here: `apt-get install musl-tools`, `rustup target add …-musl`"
        );
        return;
    }
    let (_, image) = built(&project(), &["--libc", "musl"]);
    assert_eq!(image.layers.len(), 3);
    assert!(
        !image.paths().iter().any(|path| path.contains(".so")),
        "{:?}",
        image.paths()
    );
}

#[test]
fn what_does_not_link_with_musl_is_linked_with_glibc() {
    let files = project();
    files.write("build.rs", NO_MUSL);
    let (output, image) = built(&files, &[]);
    assert_eq!(image.layers.len(), 4);
    if has_musl() {
        assert!(
            output.stderr.contains("there-is-no-such-library"),
            "{}",
            output.stderr
        );
        assert!(
            output.stderr.contains("building against glibc"),
            "{}",
            output.stderr
        );
        let refused = build(&files, &["--libc", "musl"]).ends(2);
        assert!(
            refused.stderr.contains("--libc glibc"),
            "{}",
            refused.stderr
        );
    }
}

/// What of statefun-core matters for allocators, under its name.
const CORE: &str = "#[cfg(feature = \"allocator\")]\n#[global_allocator]\nstatic OURS: std::alloc::System = std::alloc::System;\n";
const CORE_MANIFEST: &str = "[package]\nname = \"statefun-core\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[features]\nallocator = []\n";

/// The features with which the core is in the program, as the SBOM has them.
fn features_of_core(files: &Files) -> String {
    let sbom: serde_json::Value = serde_json::from_str(&files.read("sbom.json")).unwrap();
    let core = &sbom["components"][0];
    assert_eq!(core["name"], "statefun-core");
    core["properties"][0]["value"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn with_musl_it_has_an_allocator_unless_the_application_has_one() {
    if !has_musl() {
        println!("SKIPPED: there is no musl here");
        return;
    }
    let files = project()
        .with("core/Cargo.toml", CORE_MANIFEST)
        .with("core/src/lib.rs", CORE);
    let manifest = files.read("Cargo.toml");
    let manifest = format!(
        "{manifest}[dependencies]\nstatefun = {{ package = \"statefun-core\", path = \"core\" }}\n"
    );
    files.write("Cargo.toml", &manifest);
    let main = format!("use statefun as _;\n{}", files.read("src/main.rs"));
    files.write("src/main.rs", &main);
    let make = |more: &[&str]| {
        let mut arguments = vec!["--sbom", "sbom.json"];
        arguments.extend(more);
        built(&files, &arguments).0.stderr
    };
    make(&[]);
    assert_eq!(features_of_core(&files), "allocator");
    make(&["--no-allocator"]);
    assert_eq!(features_of_core(&files), "");
    make(&["--libc", "glibc"]);
    assert_eq!(features_of_core(&files), "");

    let own = format!(
        "{main}\n#[global_allocator]\nstatic MINE: std::alloc::System = std::alloc::System;\n"
    );
    files.write("src/main.rs", &own);
    let said = make(&[]);
    assert!(
        said.contains("of its own") && said.contains("allocator = false"),
        "{said}"
    );
    assert_eq!(features_of_core(&files), "");
    files.write(
        "Cargo.toml",
        &format!("{manifest}[package.metadata.statefun.image]\nallocator = false\n"),
    );
    let said = make(&[]);
    assert!(!said.contains("of its own"), "{said}");
}

/// All programs of the PATH, but compilers for musl.
fn without_musl() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for entry in std::env::split_paths(&path)
        .filter_map(|path| path.read_dir().ok())
        .flatten()
    {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().contains("musl") {
            // The first one of a name counts.
            let _ = symlink(entry.path(), directory.path().join(entry.file_name()));
        }
    }
    directory
}

#[test]
fn without_musl_it_says_what_to_install() {
    let path = without_musl();
    let path = path.path().to_str().unwrap();
    let files: Files = project();
    let call = |libc: &str| -> Output {
        files.statefun_with(
            &[("PATH", path)],
            &["build-image", "--output", "oci:out", "--libc", libc],
        )
    };
    let said = call("auto").ends(0).stderr;
    assert!(said.contains("no static binary"), "{said}");
    assert!(
        said.contains("apt-get install musl-tools") || said.contains("rustup target add"),
        "{said}"
    );
    let refused = call("musl").ends(2).stderr;
    assert!(
        refused.contains("apt-get install musl-tools") || refused.contains("rustup target add"),
        "{refused}"
    );
}
