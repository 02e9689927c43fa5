//! Layouts that cannot be pushed.

use super::*;

/// Nobody listens there: what is said is said before anything is sent.
const NOWHERE: &str = "127.0.0.1:1/hello:1";

fn refused(layout: &Layout) -> String {
    shown(Pusher::new().push(layout, NOWHERE).unwrap_err())
}

#[test]
fn a_layout_that_is_as_it_should_be_gets_as_far_as_the_registry() {
    let said = refused(&Layout::of(&[b"a layer"]));
    assert!(
        said.starts_with("cannot reach 127.0.0.1:1: ") && said.contains("refused"),
        "{said}"
    );
}

#[test]
fn what_is_missing_is_named() {
    let layout = Layout::of(&[b"a layer"]);
    let file = layout.file(&digest(b"a layer"));
    std::fs::remove_file(&file).unwrap();
    let said = refused(&layout);
    assert!(
        said.contains(&format!("cannot read {}: No such file", file.display())),
        "{said}"
    );

    std::fs::remove_file(layout.path().join("index.json")).unwrap();
    assert!(refused(&layout).contains("index.json: No such file"));
}

#[test]
fn what_is_shorter_or_longer_or_other_than_its_description_is_damaged() {
    for (bytes, said) in [
        (&b"a laye"[..], "it should have 7 bytes, and has 6"),
        (b"a layers", "it should have 7 bytes, and has 8"),
        (b"A layer", "it should have the digest sha256:"),
        (b"", "it should have 7 bytes, and has 0"),
    ] {
        let layout = Layout::of(&[b"a layer"]);
        std::fs::write(layout.file(&digest(b"a layer")), bytes).unwrap();
        assert!(refused(&layout).contains(said));
    }
    let layout = Layout::of(&[b"a layer"]);
    let manifest = layout.file(&layout.digest());
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("manifest.v1", "manifest.v2")).unwrap();
    assert!(refused(&layout).contains("is damaged"));
}

#[test]
fn only_what_is_in_the_layout_is_pushed() {
    let refused_as = |layout: &Layout, digest: &str| {
        let reference = NOWHERE.parse().unwrap();
        let variables = |_: &str| None;
        let patience = Patience::default();
        let pushing = push_with(
            layout.path(),
            digest,
            &reference,
            &|_| {},
            &variables,
            &patience,
        );
        shown(block_on(pushing).unwrap().unwrap_err())
    };
    let layout = Layout::of(&[b"a layer"]);
    let said = refused_as(&layout, &digest(b"another"));
    assert!(
        said.contains(
            "index.json is not as an OCI layout has it: it has no image with the digest sha256:"
        ),
        "{said}"
    );

    // Another image beside it.
    let other = serde_json::json!({"digest": digest(b"a"), "size": 7});
    let index = std::fs::read_to_string(layout.path().join("index.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_str(&index).unwrap();
    index["manifests"].as_array_mut().unwrap().push(other);
    layout.write("index.json", index.to_string().as_bytes());
    assert!(refused(&layout).contains("cannot reach"));

    let one = |digest: &str| serde_json::json!({"digest": digest, "size": 7});
    for name in [
        "sha256:../../../etc/passwd",
        "sha512:00",
        "",
        "sha256:",
        &digest(b"a").to_uppercase(),
    ] {
        layout.write_index(&[one(name)]);
        assert!(
            refused_as(&layout, name).contains("is no SHA-256 digest"),
            "{name}"
        );
    }

    let list = layout.blob("application/vnd.oci.image.index.v1+json", b"{}");
    layout.write_index(&[list]);
    assert!(refused_as(&layout, &digest(b"{}")).contains("it has a list of images"));

    let text = layout.blob("application/vnd.oci.image.manifest.v1+json", b"no JSON");
    layout.write_index(&[text]);
    assert!(refused_as(&layout, &digest(b"no JSON")).contains("is not as an OCI layout has it"));

    layout.write("index.json", b"");
    assert!(refused(&layout).contains("index.json is not as an OCI layout has it: EOF"));
}
