//! One mistake gives one finding: each line of each good file is spoilt in several ways, one at a time.

use statefun_core::module::render::{Format, render};

use crate::{Case, run};

/// Spoils line after line with `spoil`, and expects no more than one finding each time.
fn spoil_each_line(what: &str, spoil: impl Fn(&str) -> Option<String>) {
    let mut failures = Vec::new();
    let mut found = 0;
    for case in Case::all("good") {
        let surroundings = case.surroundings();
        for module in 0..case.modules.len() {
            let text = &case.modules[module].1;
            let lines: Vec<&str> = text.lines().collect();
            for index in 0..lines.len() {
                if lines[index].starts_with('#') {
                    continue;
                }
                let Some(spoilt) = spoil(lines[index]) else {
                    continue;
                };
                let mut modules = case.modules.clone();
                modules[module].1 = lines
                    .iter()
                    .enumerate()
                    .map(|(at, line)| {
                        if at == index {
                            spoilt.clone()
                        } else {
                            format!("{line}\n")
                        }
                    })
                    .collect();
                let (application, findings) = run(&modules, &surroundings);
                found += findings.len();
                if findings.len() > 1 {
                    let text = render(&findings, application.sources(), Format::Github);
                    failures.push(format!("{}, {what} `{}`:\n{text}", case.name, lines[index]));
                }
            }
        }
    }
    assert!(found > 30, "{what} finds only {found} mistakes");
    assert!(
        failures.is_empty(),
        "{} cascades:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn a_line_deleted() {
    spoil_each_line("without", |_| Some(String::new()));
}

#[test]
fn a_key_misspelt() {
    spoil_each_line("misspelt", |line| {
        let colon = line
            .find(": ")
            .or_else(|| line.strip_suffix(':').map(str::len))?;
        Some(format!("{}z{}\n", &line[..colon], &line[colon..]))
    });
}

#[test]
fn a_key_unlike_any_other() {
    spoil_each_line("renamed", |line| {
        let colon = line
            .find(": ")
            .or_else(|| line.strip_suffix(':').map(str::len))?;
        let start = line.len() - line.trim_start_matches([' ', '-', '{']).len();
        (start < colon).then(|| format!("{}qqqqqqqq{}\n", &line[..start], &line[colon..]))
    });
}

#[test]
fn a_value_misspelt() {
    spoil_each_line("misspelt", |line| {
        let colon = line.find(": ")?;
        let value = line[colon + 2..].trim_end();
        let plain = !value.is_empty()
            && value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/-._:".contains(&b));
        plain.then(|| format!("{}: {value}q\n", &line[..colon]))
    });
}

#[test]
fn a_value_of_another_kind() {
    for other in ["{}", "[]", "\"\"", "[[1]]", "{a: {b: c}}"] {
        spoil_each_line(other, |line| {
            let colon = line.find(": ")?;
            Some(format!("{}: {other}\n", &line[..colon]))
        });
    }
}

#[test]
fn a_value_missing() {
    spoil_each_line("emptied", |line| {
        let colon = line.find(": ")?;
        Some(format!("{}:\n", &line[..colon]))
    });
}
