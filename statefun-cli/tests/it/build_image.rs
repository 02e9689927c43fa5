//! `statefun build-image`, on an application that builds in no time.

mod clones;
mod contents;
mod libc;
mod tools;

use std::collections::BTreeSet;

use contents::Contents;

use crate::support::{Files, Output, application, greeter, json};

/// The wiring that fits the made-up application, as an image needs it.
const WIRING: &str = "\
kind: io.statefun.http.v1/ingress
spec:
  id: example/greets
  address: ${STATEFUN_LISTEN_HOST:-127.0.0.1}:8080
  path: /greets
  valueType: example/Greet
  auth:
    bearer: ${TOKEN}
  routers: [greets]
---
kind: io.statefun.file.v1/egress
spec:
  id: example/emails
  path: emails.jsonl
";

fn project() -> Files {
    application(&json(&greeter()))
        .with("module.yaml", WIRING)
        .with("statefun.yaml", "workers: 2\n")
}

/// A call that makes `out.tar`, with more arguments.
fn build(files: &Files, more: &[&str]) -> Output {
    let mut arguments = vec!["build-image", "--output", "docker-archive:out.tar"];
    arguments.extend(more);
    files.statefun(&arguments)
}

fn built(files: &Files, more: &[&str]) -> (Output, Contents) {
    let output = build(files, more).ends(0);
    let contents = Contents::of_archive(&files.path().join("out.tar"));
    (output, contents)
}

#[test]
fn it_has_what_the_application_needs_and_runs_it_as_nobody_special() {
    let files = project();
    let (output, image) = built(&files, &["--sbom", "sbom.json"]);
    assert_eq!(image.listed["RepoTags"][0], "fake-app:0.0.0");
    let program = image.file("app/fake-app");
    assert_eq!((program.mode, program.owner), (0o755, 0));
    // The text as it is: variables are the container's.
    assert_eq!(image.text("app/module.yaml"), WIRING);
    assert_eq!(image.text("app/statefun.yaml"), "workers: 2\n");
    assert_eq!(image.file("data/").owner, 65_532);
    assert!(image.text("etc/passwd").contains("65532:65532"));
    assert_eq!(image.text("app/sbom.cdx.json"), files.read("sbom.json"));
    let sbom: serde_json::Value = serde_json::from_str(&files.read("sbom.json")).unwrap();
    assert_eq!(sbom["metadata"]["component"]["name"], "fake-app");

    let config = &image.config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["WorkingDir"], "/data");
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/app/fake-app"]));
    assert_eq!(config["Volumes"], serde_json::json!({"/data": {}}));
    assert_eq!(
        config["ExposedPorts"],
        serde_json::json!({"8080/tcp": {}, "9464/tcp": {}})
    );
    let environment: BTreeSet<&str> = config["Env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(serde_json::Value::as_str)
        .collect();
    for variable in [
        "STATEFUN_HOME=/app",
        "STATEFUN_LISTEN_HOST=0.0.0.0",
        "STATEFUN_OPERATIONS_LISTEN=0.0.0.0:9464",
    ] {
        assert!(environment.contains(variable), "{environment:?}");
    }
    for labels in [&config["Labels"], &image.manifest["annotations"]] {
        assert_eq!(labels["org.opencontainers.image.title"], "fake-app");
        assert_eq!(
            labels["io.statefun.functions"],
            "example/email-sender,example/greeter"
        );
        assert_eq!(
            labels["io.statefun.core.version"],
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(
            labels["org.opencontainers.image.revision"],
            serde_json::Value::Null
        );
    }
    let digest = output.stdout.strip_prefix("fake-app@sha256:").unwrap();
    assert_eq!(digest.trim_end().len(), 64, "{digest}");
    for part in [
        "load -i out.tar",
        "run --rm --read-only -v fake-app-data:/data -e TOKEN=… -p 8080:8080 -p 127.0.0.1:9464:9464 fake-app:0.0.0",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
}

#[test]
fn the_same_source_is_the_same_image_wherever_it_lies() {
    let (one, other) = (project(), project());
    for files in [&one, &other] {
        // What C compilers take for the time.
        files.write(
            "build.rs",
            "fn main() { assert_eq!(std::env::var(\"SOURCE_DATE_EPOCH\").as_deref(), Ok(\"0\")); }",
        );
    }
    let both = ["--output", "oci:out"];
    let (first, _) = built(&one, &both);
    let (second, _) = built(&other, &both);
    assert_eq!(first.stdout, second.stdout);
    let read = |files: &Files, name: &str| std::fs::read(files.path().join(name)).unwrap();
    assert!(read(&one, "out.tar") == read(&other, "out.tar"));
    assert_eq!(read(&one, "out/index.json"), read(&other, "out/index.json"));
    // Also when it is built again, with other variables.
    let again = one.statefun_with(
        &[
            ("TOKEN", "secret"),
            ("LANG", "de_DE.UTF-8"),
            ("TZ", "Asia/Tokyo"),
        ],
        &["build-image", "--output", "oci:out"],
    );
    assert_eq!(again.ends(0).stdout, first.stdout);
}

#[test]
fn a_change_makes_its_own_layer_new() {
    let files = project();
    let before = built(&files, &[]).1.digests();
    let differ = |files: &Files| -> Vec<bool> {
        let now = built(files, &[]).1.digests();
        assert_eq!(now.len(), before.len());
        now.iter()
            .zip(&before)
            .map(|(now, before)| now != before)
            .collect()
    };
    let last = before.len() - 1;
    let only = |index: usize| -> Vec<bool> { (0..=last).map(|at| at == index).collect() };
    let code = files.read("src/main.rs");
    files.write("src/main.rs", &code.replace("VERSION-1", "VERSION-2"));
    assert_eq!(differ(&files), only(last));
    files.write("src/main.rs", &code);
    files.write("module.yaml", &format!("{WIRING}# A comment.\n"));
    assert_eq!(differ(&files), only(last - 1));
}

#[test]
fn wrong_wiring_is_refused_before_and_after_the_build() {
    let files = project();
    files.write(
        "module.yaml",
        "kind: io.statefun.http.v1/ingres\nspec: {}\n",
    );
    let output = build(&files, &[]).ends(1);
    assert!(output.stderr.contains("did you mean"), "{}", output.stderr);
    assert!(!files.path().join("target").exists(), "it was built");

    files.write("module.yaml", &WIRING.replace("[greets]", "[gretes]"));
    let output = build(&files, &[]).ends(1);
    for part in ["gretes", "module.yaml:9", "no image was made"] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    assert_eq!(output.stdout, "");

    files.write("module.yaml", WIRING);
    files.write("statefun.yaml", "worker: 2\n");
    assert!(build(&files, &[]).ends(1).stderr.contains("statefun.yaml"));
    files.write("statefun.yaml", "");
    files.write("src/main.rs", "fn main() { nothing() }\n");
    let output = build(&files, &[]).ends(1);
    // Once: it is not for another C library to mend.
    assert_eq!(
        output.stderr.matches("error[E0425]").count(),
        1,
        "{}",
        output.stderr
    );
    assert!(!files.path().join("out.tar").exists(), "there is an image");
}

#[test]
fn what_listens_on_loopback_is_warned_of_with_the_line_to_write() {
    let files = project();
    files.write(
        "module.yaml",
        &WIRING.replace("${STATEFUN_LISTEN_HOST:-127.0.0.1}:8080", "127.0.0.1:8085"),
    );
    let (output, image) = built(&files, &[]);
    for part in [
        "warning: ingress `example/greets` listens on 127.0.0.1",
        "address: ${STATEFUN_LISTEN_HOST:-127.0.0.1}:8085",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    assert!(image.config["config"]["ExposedPorts"]["8085/tcp"].is_object());
}

#[test]
fn a_layout_keeps_other_images_and_loses_what_nobody_needs() {
    let files = project();
    let blobs = || {
        std::fs::read_dir(files.path().join("out/blobs/sha256"))
            .unwrap()
            .count()
    };
    let write = |tag: &str| {
        let output = files.statefun(&["build-image", "--output", "oci:out", "--tag", tag]);
        output.ends(0).stdout
    };
    let first = write("1");
    assert_eq!(write("2"), first, "a tag is no part of an image");
    let alone = blobs();
    files.write("module.yaml", &format!("{WIRING}# A comment.\n"));
    let changed = write("2");
    assert_ne!(changed, first);
    // Configuration, manifest and one layer are others.
    assert_eq!(blobs(), alone + 3);
    assert_eq!(write("1"), changed);
    assert_eq!(blobs(), alone);
    let index: serde_json::Value = serde_json::from_str(&files.read("out/index.json")).unwrap();
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));

    let nowhere = ["build-image", "--output", "docker-archive:nowhere/out.tar"];
    let refused = files.statefun(&nowhere).ends(2);
    assert!(
        refused.stderr.contains("no directory nowhere"),
        "{}",
        refused.stderr
    );
    let refused = files
        .statefun(&["build-image", "--output", "oci:src"])
        .ends(1);
    assert!(
        refused.stderr.contains("no OCI image layout"),
        "{}",
        refused.stderr
    );
}

#[test]
fn the_source_is_named_by_its_commit_and_its_time() {
    let files = project();
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
            .args(arguments)
            .current_dir(files.path())
            .env("GIT_COMMITTER_DATE", "2024-05-06T07:08:09Z")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&[
        "add",
        "module.yaml",
        "src",
        "Cargo.toml",
        "description.json",
    ]);
    git(&["commit", "-q", "-m", "First."]);
    let commit = git(&["rev-parse", "HEAD"]);
    let said = |image: &Contents| {
        let label = |name: &str| {
            let name = format!("org.opencontainers.image.{name}");
            image.config["config"]["Labels"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(image.config["created"], label("created"));
        (label("revision"), label("created"))
    };
    // The first build leaves files that git does not know: they are none of the source.
    for _ in 0..2 {
        let (_, image) = built(&files, &[]);
        assert_eq!(
            said(&image),
            (commit.clone(), "2024-05-06T07:08:09Z".to_owned())
        );
    }
    files.write("module.yaml", &format!("{WIRING}# A comment.\n"));
    let arguments = ["build-image", "--output", "docker-archive:out.tar"];
    files
        .statefun_with(&[("SOURCE_DATE_EPOCH", "1000000000")], &arguments)
        .ends(0);
    let image = Contents::of_archive(&files.path().join("out.tar"));
    assert_eq!(
        said(&image),
        (format!("{commit}-dirty"), "2001-09-09T01:46:40Z".to_owned())
    );
    let refused = files
        .statefun_with(&[("SOURCE_DATE_EPOCH", "noon")], &arguments)
        .ends(2);
    assert!(
        refused.stderr.contains("SOURCE_DATE_EPOCH=noon"),
        "{}",
        refused.stderr
    );
}

#[test]
fn names_certificates_and_time_zones_are_chosen() {
    let files = project();
    let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    files.write("ca.pem", pem);
    let zones = std::path::Path::new("/usr/share/zoneinfo/UTC").exists();
    let zones = if zones { "yes" } else { "no" };
    let (output, image) = built(
        &files,
        &[
            "--name",
            "team/shop",
            "--tag",
            "v1",
            "--ca-certificates",
            "ca.pem",
            "--timezones",
            zones,
        ],
    );
    assert_eq!(image.listed["RepoTags"][0], "team/shop:v1");
    assert!(
        output.stdout.starts_with("team/shop@sha256:"),
        "{}",
        output.stdout
    );
    assert_eq!(image.text("etc/ssl/certs/ca-certificates.crt"), pem);
    let paths = image.paths();
    assert_eq!(paths.contains(&"usr/share/zoneinfo/UTC"), zones == "yes");
    assert!(!paths.iter().any(|path| path.contains("zoneinfo/right")));
    for (arguments, problem) in [
        (["--name", "Shop"], "`Shop` is no name"),
        (["--tag", "a b"], "`a b` is no tag"),
        (["--ca-certificates", "module.yaml"], "no certificate"),
    ] {
        let refused = build(&files, &arguments).ends(2);
        assert!(refused.stderr.contains(problem), "{}", refused.stderr);
    }
}
