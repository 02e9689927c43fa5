//! `statefun validate`.

use crate::support::{Files, WIRING, application, greeter, json, statefun};

fn fitting() -> Files {
    application(&json(&greeter())).with("module.yaml", WIRING)
}

#[test]
fn all_fine() {
    let files = fitting();
    insta::assert_snapshot!(files.shown(&["validate"]));
    let output = files.statefun(&["validate", "--format", "json"]).ends(0);
    let findings: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(findings["errors"], 0);
    assert_eq!(
        files
            .statefun(&["validate", "--format", "github"])
            .ends(0)
            .stdout,
        ""
    );
}

#[test]
fn each_finding_is_reported_once_in_every_format() {
    let wrong = WIRING
        .replace("routers: [greets]", "targets: [example/greter]")
        .replace("path: emails", "pth: emails");
    let files = application(&json(&greeter())).with("module.yaml", &wrong);
    insta::assert_snapshot!("human", files.shown(&["validate"]));
    insta::assert_snapshot!("github", files.shown(&["validate", "--format", "github"]));
    let output = files.statefun(&["validate", "--format", "json"]).ends(1);
    let findings: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let all = findings["findings"].as_array().unwrap();
    let human = files.statefun(&["validate"]).stdout;
    for finding in all {
        let code = finding["code"].as_str().unwrap();
        assert_eq!(
            human.matches(code).count(),
            all.iter().filter(|one| one["code"] == code).count(),
            "{code}"
        );
    }
}

#[test]
fn warnings_are_no_errors() {
    let unused = "---\nkind: io.statefun.stdio.v1/egress\nspec:\n  id: example/unused\n";
    let files = application(&json(&greeter())).with("module.yaml", &format!("{WIRING}{unused}"));
    let output = files.statefun(&["validate"]).ends(0);
    assert!(
        output.stdout.contains("SF0305") && output.stderr.contains("1 warning"),
        "{output:?}"
    );
}

#[test]
fn yaml_alone_is_checked_and_the_rest_is_said() {
    let files = Files::new().with("module.yaml", WIRING);
    insta::assert_snapshot!("yaml_fine", files.shown(&["validate"]));
    let files = Files::new().with(
        "module.yaml",
        &WIRING.replace("id: example/greets", "id: greets"),
    );
    insta::assert_snapshot!("yaml_wrong", files.shown(&["validate"]));
}

#[test]
fn nothing_to_check() {
    let files = Files::new();
    insta::assert_snapshot!("nothing", files.shown(&["validate"]));
    insta::assert_snapshot!("missing", files.shown(&["validate", "--module", "no.yaml"]));
    insta::assert_snapshot!(
        "no_manifest",
        files.shown(&["validate", "--manifest-path", "no/Cargo.toml"])
    );
}

#[test]
fn code_that_does_not_compile_hides_no_yaml_finding() {
    let files = fitting()
        .with("src/main.rs", "fn main( {\n")
        .with("module.yaml", "kind: nonsense\nspec: {}\n");
    let output = files.statefun(&["validate"]).ends(1);
    assert!(output.stdout.contains("SF0202"), "{}", output.stdout);
    assert!(
        output.stderr.contains("unclosed delimiter") || output.stderr.contains("error"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("could not be built"),
        "{}",
        output.stderr
    );
    // And without a finding it is an error all the same.
    files.write("module.yaml", WIRING);
    files.statefun(&["validate"]).ends(1);
}

#[test]
fn without_a_build_the_last_answer_counts() {
    let files = fitting();
    let output = files.statefun(&["validate", "--no-build"]).ends(2);
    assert!(
        output.stderr.contains("no earlier answer")
            && output.stderr.contains("without `--no-build`")
    );
    files.statefun(&["validate"]).ends(0);
    files.write("module.yaml", &WIRING.replace("[greets]", "[greetz]"));
    let output = files.statefun(&["validate", "--no-build"]).ends(1);
    assert!(
        output.stdout.contains("did you mean `greets`?"),
        "{}",
        output.stdout
    );
    assert!(!output.stderr.contains("has changed"), "{}", output.stderr);

    let source = files.path().join("src/main.rs");
    let later = std::fs::metadata(&source).unwrap().modified().unwrap()
        + std::time::Duration::from_hours(1);
    std::fs::File::options()
        .write(true)
        .open(&source)
        .unwrap()
        .set_modified(later)
        .unwrap();
    let output = files.statefun(&["validate", "--no-build"]).ends(1);
    assert!(
        output.stderr.contains("the code has changed"),
        "{}",
        output.stderr
    );

    files.write("target/statefun/fake-app/description.json", "{");
    let output = files.statefun(&["validate", "--no-build"]).ends(2);
    assert!(output.stderr.contains("damaged"), "{}", output.stderr);
}

#[test]
fn another_version_says_which_side_to_upgrade() {
    for (version, upgrade) in [
        (0, "upgrade statefun-core in the application"),
        (99, "upgrade the command line"),
    ] {
        let text = format!(
            r#"{{"version": {version}, "core_version": "7.7.7", "functions": "another layout"}}"#
        );
        let files = application(&text).with("module.yaml", WIRING);
        let output = files.statefun(&["validate"]).ends(1);
        let flat = output
            .stdout
            .replace('\n', " ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(
            flat.contains("SF0321") && flat.contains(upgrade) && flat.contains("7.7.7"),
            "{}",
            output.stdout
        );
        let output = files.statefun(&["graph"]).ends(1);
        assert!(
            output.stdout.is_empty() && output.stderr.contains("SF0321"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn a_program_that_is_no_application_is_told_what_to_do() {
    let hello = Files::new()
        .with(
            "Cargo.toml",
            "[package]\nname = \"hello\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n",
        )
        .with("module.yaml", WIRING);
    for (main, problem) in [
        (
            "fn main() { println!(\"Hello, world!\"); }",
            "printed `Hello, world!`",
        ),
        ("fn main() {}", "printed nothing"),
        ("fn main() { std::process::exit(3) }", "exit status: 3"),
    ] {
        hello.write("src/main.rs", main);
        let output = hello.statefun(&["validate"]).ends(2);
        assert!(output.stderr.contains(problem), "{}", output.stderr);
        assert!(
            output.stderr.contains("statefun::main()"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn packages_of_other_kinds() {
    let manifest = "[package]\nname = \"fake-app\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let files = fitting().with("src/bin/second.rs", "fn main() {}");
    let output = files.statefun(&["validate"]).ends(2);
    assert!(
        output.stderr.contains("several programs") && output.stderr.contains("--bin"),
        "{}",
        output.stderr
    );
    files.statefun(&["validate", "--bin", "fake-app"]).ends(0);
    let output = files.statefun(&["validate", "--bin", "third"]).ends(2);
    assert!(
        output.stderr.contains("no program `third`"),
        "{}",
        output.stderr
    );

    let library = Files::new()
        .with("Cargo.toml", manifest)
        .with("src/lib.rs", "");
    let output = library.statefun(&["validate"]).ends(2);
    assert!(
        output.stderr.contains("a library only"),
        "{}",
        output.stderr
    );

    let workspace = Files::new().with("Cargo.toml", "[workspace]\nmembers = []\n");
    let output = workspace.statefun(&["validate"]).ends(2);
    assert!(
        output.stderr.contains("workspace without a package"),
        "{}",
        output.stderr
    );

    let broken = Files::new().with("Cargo.toml", "[package\n");
    let output = broken.statefun(&["validate"]).ends(1);
    assert!(
        output.stderr.contains("cargo cannot read Cargo.toml"),
        "{}",
        output.stderr
    );
}

#[test]
fn from_below_and_from_elsewhere_the_same_is_found() {
    let files = fitting().with("modules/more.yaml", "kind: nonsense\nspec: {}\n");
    let below = files.path().join("src");
    let output = statefun(&below, &["validate"]).ends(1);
    assert!(
        output.stdout.contains("../modules/more.yaml:1"),
        "{}",
        output.stdout
    );
    let manifest = files.path().join("Cargo.toml");
    let output = statefun(
        Files::new().path(),
        &["validate", "--manifest-path", manifest.to_str().unwrap()],
    )
    .ends(1);
    assert!(
        output.stdout.contains("modules/more.yaml:1"),
        "{}",
        output.stdout
    );
    // What is named takes the place of what is found.
    files
        .statefun(&["validate", "--module", "module.yaml"])
        .ends(0);
}
