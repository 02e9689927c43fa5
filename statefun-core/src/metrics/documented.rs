//! `METRICS.md` lists what `/metrics` shows, no more and no less.

use super::METRICS;

const DOCUMENT: &str = include_str!("../../METRICS.md");

/// The table as it should be.
fn table() -> String {
    let mut table =
        "| metric | kind | labels | in StateFun | what it says |\n|---|---|---|---|---|\n"
            .to_owned();
    for metric in METRICS {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let statefun = metric
            .statefun
            .map_or_else(String::new, |name| format!("`{name}`"));
        table.push_str(&format!(
            "| `{}` | {} | {} | {statefun} | {} |\n",
            metric.name,
            metric.kind.name(),
            labels.join(", "),
            metric.help
        ));
    }
    table
}

#[test]
fn the_table_lists_all_metrics() {
    let expected = table();
    assert!(
        DOCUMENT.contains(&expected),
        "the table in statefun-core/METRICS.md is not this one:\n\n{expected}"
    );
    // Nothing stands beside it that looks like one.
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    assert_eq!(rows.count(), METRICS.len());
}
