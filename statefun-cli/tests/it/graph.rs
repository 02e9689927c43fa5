//! `statefun graph`.

use crate::support::{Files, WIRING, application, greeter, json};

#[test]
fn every_format() {
    let files = application(&json(&greeter())).with("module.yaml", WIRING);
    for format in ["text", "mermaid", "dot"] {
        insta::assert_snapshot!(format, files.shown(&["graph", "--format", format]));
    }
    let output = files
        .statefun(&["graph", "--format", "json", "--no-build"])
        .ends(0);
    let graph: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(graph["nodes"].as_array().unwrap().len(), 5);
}

#[test]
fn without_code_only_the_yaml_is_drawn() {
    let files = Files::new().with("module.yaml", WIRING);
    insta::assert_snapshot!(files.shown(&["graph"]));
}

#[test]
fn what_cannot_be_read_is_not_drawn() {
    let files = Files::new().with("module.yaml", "kind: nonsense\nspec: {}\n");
    let output = files.statefun(&["graph"]).ends(1);
    assert!(
        output.stdout.is_empty() && output.stderr.contains("SF0202"),
        "{output:?}"
    );
    let output = Files::new().statefun(&["graph"]).ends(2);
    assert!(output.stderr.contains("statefun new"), "{}", output.stderr);
    let broken = application("{}")
        .with("src/main.rs", "fn main( {")
        .with("module.yaml", WIRING);
    let output = broken.statefun(&["graph"]).ends(1);
    assert!(
        output.stdout.is_empty() && output.stderr.contains("could not be built"),
        "{}",
        output.stderr
    );
}
