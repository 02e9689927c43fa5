//! Debian's `docker-registry`.

use std::cell::Cell;
use std::process::Command;
use std::sync::{Arc, Mutex};

use statefun_tests_registry::{BreakingWay, Options, PASSWORD, Registry, USER, is_there, skipped};

use super::*;

fn registry() -> Option<Registry> {
    Registry::start(&Options::default())
}

fn config_bytes(layout: &Layout) -> usize {
    let manifest = std::fs::read(layout.file(&layout.digest())).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["config"]["size"].as_u64().unwrap() as usize
}

#[test]
fn what_is_there_is_not_sent_again() {
    let Some(registry) = registry() else { return };
    let pusher = Pusher::new();
    let name = |tag: &str| format!("{}/some/hello:{tag}", registry.address());

    let (certificates, wiring, binary) = (noise(3_000, 1), noise(500, 2), noise(600_000, 3));
    let first = Layout::of(&[&certificates, &wiring, &binary]);
    let pushed = pusher.push(&first, &name("1")).unwrap();
    let all = amount(4, 603_500 + config_bytes(&first));
    assert_eq!((pushed.uploaded, pushed.present), (all, amount(0, 0)));
    assert_eq!(pushed.digest, first.digest());

    let again = pusher.push(&first, &name("1")).unwrap();
    assert_eq!((again.uploaded, again.present), (amount(0, 0), all));
    assert_eq!(again.digest, pushed.digest);

    // Another binary: its layer, and the configuration that names it.
    let other = noise(600_000, 4);
    let second = Layout::of(&[&certificates, &wiring, &other]);
    let changed = pusher.push(&second, &name("2")).unwrap();
    assert_eq!(changed.uploaded, amount(2, 600_000 + config_bytes(&second)));
    assert_eq!(changed.present, amount(2, 3_500));
    assert_ne!(changed.digest, pushed.digest);
    pusher.told();

    for (layout, tag) in [(&first, "1"), (&second, "2")] {
        is_pulled_back(&name(tag), &layout.digest());
    }
}

/// skopeo pulls it, checks it, and finds the same digest.
#[track_caller]
fn is_pulled_back(name: &str, digest: &str) {
    if !is_there("skopeo") {
        skipped("there is no `skopeo` here, so nothing is pulled back");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "--src-tls-verify=false",
            "--preserve-digests",
        ])
        .arg(format!("docker://{name}"))
        .arg(format!("oci:{}:it", folder.path().display()))
        .output()
        .unwrap();
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    let index = std::fs::read(folder.path().join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest);
}

#[test]
fn one_layer_twice_is_sent_once() {
    let Some(registry) = registry() else { return };
    let layout = Layout::of(&[b"same", b"same", b""]);
    let pushed = Pusher::new().push(&layout, &format!("{}/hello:1", registry.address()));
    assert_eq!(
        pushed.unwrap().uploaded,
        amount(3, 4 + config_bytes(&layout))
    );
}

#[test]
fn a_password_is_asked_for() {
    let Some(registry) = Registry::start(&Options {
        with_password: true,
        ..Options::default()
    }) else {
        return;
    };
    let address = registry.address();
    let name = format!("{address}/hello:1");
    let layout = Layout::of(&[b"a layer"]);

    let nobody = Pusher::new();
    let home = nobody.home.path().display().to_string();
    let said = shown(nobody.push(&layout, &name).unwrap_err());
    assert_eq!(
        said,
        format!(
            "{address} wants to know who is pushing, and there are no credentials for it in {home}/.docker/config.json or \
             {home}/.config/containers/auth.json\nhelp: log in with `docker login {address}` or `podman login {address}`"
        )
    );

    let wrong = Pusher::new().logged_in(&address, USER, "guess");
    let home = wrong.home.path().display().to_string();
    let said = shown(wrong.push(&layout, &name).unwrap_err());
    assert!(
        said.contains(&format!(
            "does not accept the credentials of {home}/.docker/config.json"
        )),
        "{said}"
    );
    assert!(said.contains("it answers 401 Unauthorized"), "{said}");
    assert!(
        said.contains(&format!("log in anew with `docker login {address}`")),
        "{said}"
    );
    assert!(!said.contains("guess"), "{said}");
    // No use in trying that again.
    assert_eq!(wrong.told(), ["checking"]);

    let pushed = Pusher::new()
        .logged_in(&address, USER, PASSWORD)
        .push(&layout, &name)
        .unwrap();
    assert_eq!(pushed.uploaded.blobs, 2);
}

#[test]
fn what_podman_login_has_left_is_used() {
    let options = Options {
        with_password: true,
        ..Options::default()
    };
    let Some(registry) = Registry::start(&options) else {
        return;
    };
    if !is_there("skopeo") {
        skipped("there is no `skopeo` here");
        return;
    }
    let address = registry.address();
    let mut pusher = Pusher::new();
    let file = pusher.home.path().join("auth.json");
    let login = Command::new("skopeo")
        .args([
            "login",
            "--tls-verify=false",
            "--username",
            USER,
            "--password",
            PASSWORD,
            "--authfile",
        ])
        .args([file.as_os_str(), address.as_ref()])
        .output()
        .unwrap();
    assert!(
        login.status.success(),
        "{}",
        String::from_utf8_lossy(&login.stderr)
    );
    pusher
        .variables
        .insert("REGISTRY_AUTH_FILE".to_owned(), file);
    let pushed = pusher.push(&Layout::of(&[b"a layer"]), &format!("{address}/hello:1"));
    assert_eq!(pushed.unwrap().uploaded.blobs, 2);
}

#[test]
fn a_registry_that_is_killed_amid_an_upload_and_comes_back_gets_all() {
    let Some(registry) = registry() else { return };
    let port = registry.port();
    let registry = Arc::new(Mutex::new(registry));
    let killed = registry.clone();
    let way = BreakingWay::with(port, vec![500_000], move || killed.lock().unwrap().kill());
    let layout = Layout::of(&[&noise(1_000_000, 1), b"second"]);
    let pusher = Pusher::new();
    let failures = Cell::new(0);
    let pushed = pusher.push_watched(
        &layout,
        &format!("{}/hello:1", way.address()),
        &|progress| {
            if matches!(progress, Progress::Retrying { .. }) {
                failures.set(failures.get() + 1);
                // Not at once: the second attempt finds nobody.
                if failures.get() == 2 {
                    registry.lock().unwrap().restart();
                }
            }
        },
    );
    assert_eq!(
        (
            pushed.unwrap().uploaded.blobs,
            failures.get(),
            way.cuts_left()
        ),
        (3, 2, 0)
    );
    is_pulled_back(&format!("127.0.0.1:{port}/hello:1"), &layout.digest());
}

#[test]
fn a_connection_that_breaks_is_taken_up_again() {
    let Some(registry) = registry() else { return };
    let way = BreakingWay::to(registry.port(), vec![500_000, 1_500_000, 400_000]);
    let layout = Layout::of(&[&noise(1_000_000, 1), &noise(1_000_000, 2)]);
    let pusher = Pusher::new();
    let pushed = pusher
        .push(&layout, &format!("{}/hello:1", way.address()))
        .unwrap();
    assert_eq!((way.cuts_left(), pushed.uploaded.blobs), (0, 3));
    let retried = pusher
        .told()
        .iter()
        .filter(|told| told.starts_with("retrying"))
        .count();
    assert_eq!(retried, 3);
    is_pulled_back(&format!("{}/hello:1", registry.address()), &layout.digest());
}

#[test]
fn a_way_that_always_breaks_is_said() {
    let Some(registry) = registry() else { return };
    let way = BreakingWay::to(registry.port(), vec![100_000; 100]);
    let layout = Layout::of(&[&noise(1_000_000, 1)]);
    let said = shown(
        Pusher::new()
            .push(&layout, &format!("{}/hello:1", way.address()))
            .unwrap_err(),
    );
    assert!(
        said.starts_with("uploading sha256:") && said.contains(" failed 6 times: "),
        "{said}"
    );
    assert!(
        said.contains("help: try again: what the registry has already is not sent again"),
        "{said}"
    );
}

#[test]
fn what_is_damaged_is_refused_before_anything_is_sent() {
    let Some(registry) = registry() else { return };
    let layout = Layout::of(&[b"first", b"second"]);
    std::fs::write(layout.file(&digest(b"second")), b"secomd").unwrap();
    let said = shown(
        Pusher::new()
            .push(&layout, &format!("{}/hello:1", registry.address()))
            .unwrap_err(),
    );
    assert!(
        said.starts_with("nothing was pushed: ")
            && said.contains("is damaged: it should have the digest"),
        "{said}"
    );
    assert!(!registry.said().contains("/v2/"), "{}", registry.said());
}

#[test]
fn a_registry_that_speaks_tls_has_to_prove_who_it_is() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let tls = Some((certificate.pem(), key.serialize_pem()));
    let Some(registry) = Registry::start(&Options {
        tls,
        ..Options::default()
    }) else {
        return;
    };
    let layout = Layout::of(&[b"a layer"]);
    let said = shown(
        Pusher::new()
            .push(&layout, &format!("{}/hello:1", registry.address()))
            .unwrap_err(),
    );
    assert!(
        said.starts_with(&format!(
            "no encrypted connection to {}: ",
            registry.address()
        )),
        "{said}"
    );
    assert!(
        said.contains("UnknownIssuer") && said.contains("SSL_CERT_FILE"),
        "{said}"
    );
}

#[test]
fn plain_http_is_for_this_machine_only() {
    let Some(registry) = registry() else { return };
    // An address that leads here, but is not this machine's own.
    let name = format!("0.0.0.0:{}/hello:1", registry.port());
    let said = shown(
        Pusher::new()
            .push(&Layout::of(&[b"a layer"]), &name)
            .unwrap_err(),
    );
    assert!(
        said.starts_with("no encrypted connection to 0.0.0.0:"),
        "{said}"
    );
    assert!(
        said.contains("plain HTTP, which anyone on the way can read and change"),
        "{said}"
    );
    assert!(!registry.said().contains("/v2/"), "{}", registry.said());
}
