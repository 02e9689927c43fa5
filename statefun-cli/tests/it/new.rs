//! `statefun new`.

use std::process::Command;

use crate::support::{Files, checkout, statefun};

#[test]
fn what_is_made_and_what_to_do_next() {
    let files = Files::new();
    insta::assert_snapshot!(files.shown(&["new", "my-shop"]));
    let manifest = files.read("my-shop/Cargo.toml");
    let core = checkout().join("statefun-core").canonicalize().unwrap();
    assert!(manifest.contains("name = \"my-shop\""), "{manifest}");
    assert!(
        manifest.contains(&format!("path = \"{}\"", core.display())),
        "{manifest}"
    );
    assert!(!manifest.contains("[workspace]"), "{manifest}");
    assert!(files.read("my-shop/README.md").starts_with("# my-shop\n"));
    assert!(files.path().join("my-shop/.git").is_dir());
}

#[test]
fn names_that_cannot_be_are_explained() {
    let files = Files::new();
    for (name, problem, help) in [
        ("1st", "begins with a digit", "`statefun new st`"),
        ("my shop", "a blank", "`statefun new my-shop`"),
        ("apps/fn", "use that name", "`statefun new apps/my-fn`"),
        ("größe", "`ö`", "`statefun new gr-e`"),
        ("..", "empty", "letters, digits"),
    ] {
        let output = files.statefun(&["new", name]);
        if name == ".." {
            // The directory above, which is not empty or has no good name.
            assert_eq!(output.code, 1, "{}", output.stderr);
            continue;
        }
        assert_eq!(output.code, 1, "{name}");
        assert!(
            output.stderr.contains(problem) && output.stderr.contains(help),
            "{}",
            output.stderr
        );
    }
    assert_eq!(
        std::fs::read_dir(files.path()).unwrap().count(),
        0,
        "nothing was made"
    );
}

#[test]
fn nothing_is_overwritten() {
    let files = Files::new()
        .with("shop/notes.txt", "precious")
        .with("file", "precious");
    for (name, problem) in [("shop", "not empty"), ("file", "no directory")] {
        let output = files.statefun(&["new", name]).ends(1);
        assert!(output.stderr.contains(problem), "{}", output.stderr);
    }
    assert_eq!(files.read("shop/notes.txt"), "precious");
    assert_eq!(
        std::fs::read_dir(files.path().join("shop"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn an_empty_directory_may_be_there() {
    let files = Files::new();
    std::fs::create_dir(files.path().join("shop")).unwrap();
    files.statefun(&["new", "shop", "--no-git"]).ends(0);
    assert!(files.read("shop/module.yaml").contains("kind:"));
    assert!(!files.path().join("shop/.git").exists());

    std::fs::create_dir(files.path().join("here")).unwrap();
    let here = files.path().join("here");
    statefun(&here, &["new", "."]).ends(0);
    assert!(files.read("here/Cargo.toml").contains("name = \"here\""));
}

#[test]
fn paths_are_made_and_repositories_are_not_nested() {
    let files = Files::new();
    let git = Command::new("git")
        .args(["init", "-q"])
        .current_dir(files.path())
        .status()
        .unwrap();
    assert!(git.success());
    files
        .statefun(&["new", "apps/deep/shop", "--template", "minimal"])
        .ends(0);
    assert!(
        files
            .read("apps/deep/shop/Cargo.toml")
            .contains("name = \"shop\"")
    );
    assert!(!files.path().join("apps/deep/shop/.git").exists());
}

#[test]
fn inside_a_workspace_it_stands_for_itself() {
    let files = Files::new().with("Cargo.toml", "[workspace]\nmembers = []\n");
    files.statefun(&["new", "shop"]).ends(0);
    assert!(files.read("shop/Cargo.toml").contains("\n[workspace]\n"));
    let metadata = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(files.path().join("shop"))
        .output()
        .unwrap();
    assert!(
        metadata.status.success(),
        "{}",
        String::from_utf8_lossy(&metadata.stderr)
    );
}

#[test]
fn the_checkout_can_be_named() {
    let files = Files::new();
    let root = checkout();
    for (name, given) in [("a", root.clone()), ("b", root.join("statefun-core"))] {
        files
            .statefun(&["new", name, "--path-to-statefun", given.to_str().unwrap()])
            .ends(0);
        let core = root.join("statefun-core").canonicalize().unwrap();
        assert!(
            files
                .read(&format!("{name}/Cargo.toml"))
                .contains(core.to_str().unwrap())
        );
    }
    let output = files
        .statefun(&["new", "c", "--path-to-statefun", "a"])
        .ends(2);
    assert!(output.stderr.contains("no checkout"), "{}", output.stderr);
    assert!(!files.path().join("c").exists());
}
