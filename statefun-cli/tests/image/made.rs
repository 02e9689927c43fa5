//! The image.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use statefun_core::clock::Stopwatch;

/// What `statefun build-image` has made of the greeter.
pub(crate) struct Made {
    /// A layout of OCI.
    pub(crate) layout: PathBuf,
    /// The same for `podman load`.
    pub(crate) archive: PathBuf,
    /// `sha256:…`.
    pub(crate) digest: String,
}

/// Its name and tag.
pub(crate) const NAME: &str = "greeter:0.1.0";

/// How a call of the command ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `statefun build-image` in the directory of the greeter.
pub(crate) fn build_image(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let greeter = Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("examples")
        .join("greeter");
    let mut command = Command::new(env!("CARGO_BIN_EXE_statefun"));
    command
        .arg("build-image")
        .args(arguments)
        .current_dir(greeter);
    for (name, _) in std::env::vars_os() {
        // How tests are built and run is nothing to the image.
        if name.to_string_lossy().starts_with("STATEFUN_") || name == "RUSTFLAGS" {
            command.env_remove(name);
        }
    }
    let output = command.envs(environment.iter().copied()).output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The image; the first one to ask waits for the build, and when that fails, all fail.
pub(crate) fn made() -> &'static Made {
    static MADE: LazyLock<Made> = LazyLock::new(make);
    &MADE
}

fn make() -> Made {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("greeter-image");
    // What is there may be of another day.
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).unwrap();
    let (layout, archive) = (place.join("oci"), place.join("greeter.tar"));
    let to = |kind: &str, path: &Path| format!("{kind}:{}", path.display());
    let watch = Stopwatch::start();
    let ended = build_image(
        &[
            "--output",
            &to("oci", &layout),
            "--output",
            &to("docker-archive", &archive),
        ],
        &[],
    );
    println!(
        "statefun build-image took {:.1} s:\n{}",
        watch.elapsed().as_secs_f64(),
        ended.stderr
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (name, digest) = ended.stdout.trim_end().split_once('@').unwrap();
    assert_eq!(name, "greeter", "{}", ended.stdout);
    Made {
        layout,
        archive,
        digest: digest.to_owned(),
    }
}
