//! No text panics, whatever it is; and whatever is found can be rendered.

use proptest::prelude::*;
use statefun_core::module::render::{Format, HumanOptions, render};
use statefun_core::module::{FileId, Finding, Graph, Span};

use crate::{Case, Surroundings, run};

/// What people and broken editors put into YAML.
const PIECES: &[&str] = &[
    "\n",
    " ",
    "  ",
    "\t",
    "\r\n",
    ":",
    ": ",
    "-",
    "- ",
    "---\n",
    "...\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "#",
    " #",
    "|",
    ">",
    "|-\n",
    "&a ",
    "*a",
    "!t ",
    "!!str ",
    "? ",
    "'",
    "\"",
    "\\",
    "%",
    "@",
    "`",
    "$",
    "$$",
    "${",
    "${A}",
    "${A:-b}",
    "~",
    "null",
    "true",
    "0",
    "-1",
    "99999999999999999999",
    "1e9",
    ".inf",
    "30s",
    "é",
    "👋",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\u{0}",
    "kind",
    "spec",
    "<<",
    "<<: *a",
    "targets",
    "id",
    "/",
];

#[derive(Debug, Clone)]
enum Mutation {
    Insert(usize, &'static str),
    Delete(usize, usize),
    Repeat(usize, usize, usize),
    Swap(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = 0_usize..4000;
    prop_oneof![
        4 => (place.clone(), 0..PIECES.len()).prop_map(|(at, piece)| Mutation::Insert(at, PIECES[piece])),
        2 => (place.clone(), 1_usize..40).prop_map(|(at, length)| Mutation::Delete(at, length)),
        1 => (place.clone(), 1_usize..60, place.clone()).prop_map(|(at, length, to)| Mutation::Repeat(at, length, to)),
        1 => (place.clone(), place).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

fn apply(text: &str, mutations: &[Mutation]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for mutation in mutations {
        let length = characters.len().max(1);
        match *mutation {
            Mutation::Insert(at, piece) => {
                let at = at % length;
                characters.splice(
                    at.min(characters.len())..at.min(characters.len()),
                    piece.chars(),
                );
            }
            Mutation::Delete(at, count) => {
                let from = (at % length).min(characters.len());
                let to = (from + count).min(characters.len());
                characters.drain(from..to);
            }
            Mutation::Repeat(at, count, to) => {
                let from = (at % length).min(characters.len());
                let end = (from + count).min(characters.len());
                let piece: Vec<char> = characters[from..end].to_vec();
                let to = (to % length).min(characters.len());
                characters.splice(to..to, piece);
            }
            Mutation::Swap(a, b) => {
                if !characters.is_empty() {
                    characters.swap(a % length, b % length);
                }
            }
        }
    }
    characters.into_iter().collect()
}

/// The directives hold the secrets of the environment, which nothing may show.
fn without_directives(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("#!"))
        .fold(String::new(), |text, line| text + line + "\n")
}

fn exercise(text: &str, surroundings: &Surroundings) -> Result<(), TestCaseError> {
    let modules = [("module.yaml".to_owned(), text.to_owned())];
    let (application, findings) = run(&modules, surroundings);
    let slice = |span: Span| text.get(span.start..span.end);
    let whole = |finding: &Finding| {
        let labels = finding.primary.iter().chain(&finding.related);
        labels
            .into_iter()
            .all(|label| label.span.file == FileId(0) && slice(label.span).is_some())
    };
    for finding in &findings {
        prop_assert!(whole(finding), "{:?} cuts a character", finding);
    }
    for component in application.components() {
        prop_assert!(slice(component.span).is_some());
    }
    for options in [
        HumanOptions::plain(),
        HumanOptions {
            color: true,
            unicode: false,
            width: 0,
        },
    ] {
        let report = render(&findings, application.sources(), Format::Human(options));
        for finding in &findings {
            prop_assert!(report.contains(finding.code.id));
        }
        prop_assert!(!report.contains("hunter"), "a secret is shown:\n{}", report);
    }
    let json = render(&findings, application.sources(), Format::Json);
    prop_assert!(!json.contains("hunter"), "a secret is shown:\n{}", json);
    prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    let github = render(&findings, application.sources(), Format::Github);
    prop_assert_eq!(github.lines().count(), findings.len());
    if let Some(description) = &surroundings.description {
        let graph = Graph::of(&application, description);
        for drawn in [
            graph.to_text(),
            graph.to_mermaid(),
            graph.to_dot(),
            graph.to_json(),
        ] {
            prop_assert!(drawn.is_empty() || drawn.ends_with('\n'));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_good_files(case in 0_usize..1000, mutations in prop::collection::vec(mutation(), 1..6)) {
        let cases = Case::all("good");
        let case = &cases[case % cases.len()];
        let (_, text) = &case.modules[0];
        exercise(&apply(&without_directives(text), &mutations), &case.surroundings())?;
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        exercise(&text, &Surroundings::of(""))?;
    }

    #[test]
    fn pieces_of_yaml(pieces in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = pieces.iter().map(|&piece| PIECES[piece]).collect();
        exercise(&text, &Surroundings::of(""))?;
    }
}
