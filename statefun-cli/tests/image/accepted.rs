//! What others make of the image: skopeo, umoci, a registry.

use std::collections::BTreeSet;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use statefun_tests_registry::{Options, PASSWORD, Registry, USER, is_there, skipped};

use crate::load::greeted;
use crate::made::{build_image, made};
use crate::podman::{Podman, said};

/// Calls a tool, if it is there.
fn tool(name: &str, arguments: &[&str]) -> Option<String> {
    if !is_there(name) {
        skipped(&format!("there is no `{name}` here"));
        return None;
    }
    let output = Command::new(name).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {}",
        said(&output)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn skopeo_and_umoci_accept_it() {
    let made = made();
    let layout = format!("oci:{}:0.1.0", made.layout.display());
    if let Some(text) = tool("skopeo", &["inspect", &layout]) {
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found["Digest"], made.digest.as_str());
        assert_eq!(found["Os"], "linux");
        assert_eq!(found["Labels"]["org.opencontainers.image.title"], "greeter");
        let archive = format!("docker-archive:{}", made.archive.display());
        let text = tool("skopeo", &["inspect", "--config", &archive]).unwrap();
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found["config"]["User"], "65532:65532");
        assert_eq!(found["config"]["Volumes"], serde_json::json!({"/data": {}}));
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bundle = folder.path().join("bundle");
    let image = format!("{}:0.1.0", made.layout.display());
    let unpack = [
        "unpack",
        "--rootless",
        "--image",
        &image,
        bundle.to_str().unwrap(),
    ];
    if tool("umoci", &unpack).is_some() {
        let listed = std::fs::read_dir(bundle.join("rootfs/app")).unwrap();
        let listed: BTreeSet<_> = listed
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        for name in ["greeter", "module.yaml", "sbom.cdx.json"] {
            assert!(listed.contains(name), "{listed:?}");
        }
        let config = std::fs::read_to_string(bundle.join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(
            config["process"]["args"],
            serde_json::json!(["/app/greeter"])
        );
        assert_eq!(config["process"]["cwd"], "/data");
    }
}

#[test]
fn pushed_and_pulled_back_it_is_the_same_and_runs() {
    // Before the registry, so that it does not wait for the build.
    let made = made();
    let Some(registry) = Registry::start(&Options {
        with_password: true,
        ..Options::default()
    }) else {
        return;
    };
    let place = format!("{}/team/hello", registry.address());
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("auth.json");
    let login = [
        "login",
        "--tls-verify=false",
        "--username",
        USER,
        "--password",
        PASSWORD,
        "--authfile",
    ];
    let address = registry.address();
    let login = [&login[..], &[file.to_str().unwrap(), &address]].concat();
    if tool("skopeo", &login).is_none() {
        return;
    }
    // Proxies have nothing to do with what is on this machine.
    let environment = [
        ("REGISTRY_AUTH_FILE", file.to_str().unwrap()),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("ALL_PROXY", "http://127.0.0.1:1"),
    ];
    let pushed = build_image(&["--push", &place], &environment);
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    assert_eq!(pushed.stdout, format!("{place}@{}\n", made.digest));
    assert!(
        pushed.stderr.contains(&format!("pushing to {place}:0.1.0")),
        "{}",
        pushed.stderr
    );
    assert!(
        pushed.stderr.contains("4 blobs uploaded"),
        "{}",
        pushed.stderr
    );
    // With an output, too, it is pushed from there.
    let layout = format!("oci:{}", home.path().join("layout").display());
    let again = build_image(&["--output", &layout, "--push", &place], &environment);
    assert_eq!(again.stdout, pushed.stdout, "{}", again.stderr);
    assert!(
        again
            .stderr
            .contains("0 blobs uploaded (0.0 kB), 4 there already"),
        "{}",
        again.stderr
    );

    if Podman::with_image().is_none() {
        return;
    }
    let podman = Podman::empty();
    let name = format!("{place}@{}", made.digest);
    podman.ok(&[
        "pull",
        "--tls-verify=false",
        "--authfile",
        file.to_str().unwrap(),
        &name,
    ]);
    let found = podman.ok(&["image", "inspect", "--format", "{{.Digest}}", &name]);
    assert_eq!(found, made.digest);
    let greeter = podman.start_image(&name, "data");
    let told = greeted(greeter.port, "ada", "1");
    assert_eq!(told["seen"], 1);
}

#[test]
fn a_registry_with_a_certificate_is_trusted_as_the_system_trusts() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    made();
    let tls = Some((certificate.pem(), key.serialize_pem()));
    let Some(registry) = Registry::start(&Options {
        tls,
        ..Options::default()
    }) else {
        return;
    };
    let place = format!("{}/hello:1", registry.address());

    let refused = build_image(&["--push", &place], &[]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("error: no encrypted connection to "),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("SSL_CERT_FILE"),
        "{}",
        refused.stderr
    );

    // Nobody waits for a build that cannot be pushed.
    assert!(!refused.stderr.contains("building"), "{}", refused.stderr);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.pem()).unwrap();
    let trusted = [
        ("SSL_CERT_FILE", file.path().to_str().unwrap()),
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ];
    let pushed = build_image(&["--push", &place], &trusted);
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    assert!(
        pushed.stderr.contains("4 blobs uploaded"),
        "{}",
        pushed.stderr
    );
}
