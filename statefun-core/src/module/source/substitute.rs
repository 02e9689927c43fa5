//! `${VAR}` and `${VAR:-default}` in scalars, from the environment; `$$` stands for one `$`.

use super::{Environment, Variable};

/// What came of a scalar.
pub(super) struct Substituted {
    /// The text after substitution.
    pub(super) text: String,
    /// What went wrong, with the byte range in the text before substitution.
    pub(super) problems: Vec<Problem>,
    /// The variables that are referred to.
    pub(super) variables: Vec<Variable>,
}

/// One reference that cannot be resolved.
pub(super) struct Problem {
    /// Byte range of the reference.
    pub(super) range: (usize, usize),
    /// What is wrong with it.
    pub(super) kind: ProblemKind,
}

/// What is wrong with a reference.
pub(super) enum ProblemKind {
    /// The environment has no such variable.
    Missing(String),
    /// The reference is not of the form `${NAME}` or `${NAME:-default}`.
    Malformed,
}

/// Replaces the references of `written`. Texts without a `$` come back as they are.
pub(super) fn substitute(written: &str, environment: &Environment) -> Substituted {
    let mut text = String::with_capacity(written.len());
    let mut problems = Vec::new();
    let mut variables = Vec::new();
    let mut rest = 0;
    while let Some(found) = written[rest..].find('$') {
        let at = rest + found;
        text.push_str(&written[rest..at]);
        let after = &written[at + 1..];
        if after.starts_with('$') {
            text.push('$');
            rest = at + 2;
        } else if let Some(inner) = after.strip_prefix('{') {
            let Some(length) = inner.find('}') else {
                problems.push(Problem {
                    range: (at, written.len()),
                    kind: ProblemKind::Malformed,
                });
                return Substituted {
                    text,
                    problems,
                    variables,
                };
            };
            let end = at + 2 + length + 1;
            match resolve(&inner[..length], environment, &mut variables) {
                Ok(value) => text.push_str(&value),
                Err(kind) => problems.push(Problem {
                    range: (at, end),
                    kind,
                }),
            }
            rest = end;
        } else {
            text.push('$');
            rest = at + 1;
        }
    }
    text.push_str(&written[rest..]);
    Substituted {
        text,
        problems,
        variables,
    }
}

fn resolve(
    reference: &str,
    environment: &Environment,
    variables: &mut Vec<Variable>,
) -> Result<String, ProblemKind> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let mut characters = name.chars();
    let starts_well = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if !starts_well || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(ProblemKind::Malformed);
    }
    variables.push(Variable {
        name: name.to_owned(),
        default: default.map(str::to_owned),
    });
    match (environment.get(name), default) {
        // As in a shell, `:-` also stands in for an empty variable.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ProblemKind::Missing(name.to_owned())),
    }
}

/// Byte ranges of the references in `text`, in order: to find in the file what was found in the scalar's value.
pub(super) fn references(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut rest = 0;
    while let Some(offset) = text[rest..].find('$') {
        let at = rest + offset;
        let after = &text[at + 1..];
        if after.starts_with('$') {
            rest = at + 2;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = inner
                .find('}')
                .map_or(text.len(), |length| at + 2 + length + 1);
            found.push((at, end));
            rest = end;
        } else {
            rest = at + 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(written: &str) -> String {
        let environment = Environment::of([("A", "1"), ("EMPTY", ""), ("DOLLAR", "${A}")]);
        let result = substitute(written, &environment);
        assert!(result.problems.is_empty(), "{written}");
        result.text
    }

    #[test]
    fn replaces_references() {
        assert_eq!(text("x${A}y${A}"), "x1y1");
        assert_eq!(text("${B:-two}"), "two");
        assert_eq!(text("${B:-}"), "");
        assert_eq!(text("${EMPTY:-full}"), "full");
        assert_eq!(text("${EMPTY}"), "");
    }

    #[test]
    fn a_dollar_is_only_special_where_it_must_be() {
        assert_eq!(text("a$b $ $"), "a$b $ $");
        assert_eq!(text("$${A}"), "${A}");
        assert_eq!(text("$$$${A}"), "$${A}");
        assert_eq!(text("$$${A}"), "$1");
    }

    #[test]
    fn variables_are_named_whether_they_are_set_or_not() {
        let environment = Environment::of([("A", "1")]);
        let found = substitute("$${NO}${A}${B:-2}${C} ${1}", &environment).variables;
        let found: Vec<_> = found
            .iter()
            .map(|variable| (variable.name.as_str(), variable.default.as_deref()))
            .collect();
        assert_eq!(found, [("A", None), ("B", Some("2")), ("C", None)]);
    }

    #[test]
    fn a_value_is_not_substituted_again() {
        assert_eq!(text("${DOLLAR}"), "${A}");
    }

    #[test]
    fn problems_carry_their_range() {
        let environment = Environment::of::<&str, &str>([]);
        for (written, range) in [
            ("é${MISSING}!", (2, 12)),
            ("${", (0, 2)),
            ("x${}", (1, 4)),
            ("${1A}", (0, 5)),
            ("${A-b}", (0, 6)),
        ] {
            let result = substitute(written, &environment);
            assert_eq!(result.problems.len(), 1, "{written}");
            assert_eq!(result.problems[0].range, range, "{written}");
        }
    }
}
