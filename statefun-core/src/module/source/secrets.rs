//! Finds the secrets that are written out in a file, so that no rendering shows them. Those that come from the environment
//! are never in the text to begin with.

use super::{FileId, Node, Scalar, SourceFile, Span, Value};

/// Parts of names whose values are taken for secrets.
const NAMES: &[&str] = &[
    "access-key",
    "access_key",
    "accesskey",
    "api-key",
    "api_key",
    "apikey",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "jaas",
    "passwd",
    "password",
    "secret",
    "signature",
    "token",
];

/// Whether a key says that its value is a secret.
fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    NAMES.iter().any(|name| key.contains(name))
}

/// Whether the text itself may show a secret: a lone reference to a variable does not.
pub(crate) fn is_written_out(scalar: &Scalar) -> bool {
    scalar
        .written
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .is_none_or(|name| name.contains([':', '$', '{', '}']))
}

/// The places of secrets in a tree, by the names of their keys; and of URLs with a password.
pub(crate) fn in_tree(node: &Node) -> Vec<Span> {
    let mut found = Vec::new();
    collect(node, false, &mut found);
    found
}

fn collect(node: &Node, named: bool, found: &mut Vec<Span>) {
    match &node.value {
        Value::Null | Value::Unreadable => {}
        Value::Scalar(scalar) => {
            let password = scalar.written.contains("://") && scalar.written.contains('@');
            if (named || password) && is_written_out(scalar) {
                found.push(node.span);
            }
        }
        Value::List(items) => items.iter().for_each(|item| collect(item, named, found)),
        Value::Map(entries) => {
            for entry in entries {
                collect(&entry.value, named || names_a_secret(&entry.key), found);
            }
        }
    }
}

/// The same for a file that is no YAML: what follows the name of a secret on its line.
pub(crate) fn in_lines(id: FileId, file: &SourceFile) -> Vec<Span> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in file.text().split_inclusive('\n') {
        if let Some(colon) = line.find(':')
            && names_a_secret(&line[..colon])
        {
            let value = line[colon + 1..].trim();
            let from = start + colon + 1 + line[colon + 1..].find(value).unwrap_or(0);
            found.push(Span {
                file: id,
                start: from,
                end: from + value.len(),
            });
        }
        start += line.len();
    }
    found
}
