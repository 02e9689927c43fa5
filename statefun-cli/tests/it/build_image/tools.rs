//! What other programs think of an image.

use std::path::Path;
use std::process::Command;

use super::{built, project};

/// Runs a program if it is installed; it must succeed then.
#[expect(clippy::print_stdout, reason = "it says what is left out")]
fn tool(directory: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED: {program} is not installed: `apt-get install {program}`");
            return None;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn skopeo_reads_both_forms() {
    let files = project();
    let (output, image) = built(&files, &["--output", "oci:out"]);
    let digest = output.stdout.trim().rsplit_once('@').unwrap().1;
    for place in ["oci:out:0.0.0", "oci-archive:out.tar:0.0.0"] {
        let Some(said) = tool(files.path(), "skopeo", &["inspect", place]) else {
            return;
        };
        assert!(said.contains(digest), "{place}: {said}");
    }
    let said = tool(
        files.path(),
        "skopeo",
        &["inspect", "--config", "docker-archive:out.tar"],
    );
    let config: serde_json::Value = serde_json::from_str(&said.unwrap()).unwrap();
    assert_eq!(config["rootfs"], image.config["rootfs"]);
    // Every blob is read and compared with its digest.
    for place in ["oci:out:0.0.0", "docker-archive:out.tar"] {
        tool(
            files.path(),
            "skopeo",
            &[
                "copy",
                "-q",
                place,
                &format!("dir:{}", place.replace(':', "-")),
            ],
        );
    }
}

#[test]
fn umoci_unpacks_it() {
    let files = project();
    built(&files, &["--output", "oci:out"]);
    let unpack = ["unpack", "--rootless", "--image", "out:0.0.0", "bundle"];
    if tool(files.path(), "umoci", &unpack).is_none() {
        return;
    }
    assert_eq!(files.read("bundle/rootfs/app/module.yaml"), super::WIRING);
    let config: serde_json::Value =
        serde_json::from_str(&files.read("bundle/config.json")).unwrap();
    assert_eq!(config["process"]["args"][0], "/app/fake-app");
    assert_eq!(config["process"]["cwd"], "/data");
}
