//! How types are called and shown in messages.

use crate::module::schema::{Role, Type};
use crate::module::suggest::list;

/// What a type takes, for messages.
pub(crate) fn expected(kind: &Type) -> String {
    match kind {
        Type::Text | Type::Secret => "text".to_owned(),
        Type::Boolean => "`true` or `false`".to_owned(),
        Type::Integer { .. } => "a whole number".to_owned(),
        Type::Duration => "a duration".to_owned(),
        Type::Size => "a size".to_owned(),
        Type::Name(role) => article(role.what()),
        Type::Checked(check) => article(check.what),
        Type::Choice { words } => alternatives(words.iter().copied()),
        Type::Either { words, keyed } => {
            let keys = alternatives(keyed.iter().map(|(name, _)| *name));
            if words.is_empty() {
                format!("a map with {keys}")
            } else {
                format!(
                    "{}, or a map with {keys}",
                    alternatives(words.iter().copied())
                )
            }
        }
        Type::List { .. } => "a list".to_owned(),
        Type::Map { .. } | Type::Record(_) => "a map".to_owned(),
    }
}

/// How a field of that type is written.
pub(super) fn example(kind: &Type, field: &str) -> String {
    match kind {
        Type::Text | Type::Secret => "write one value behind it".to_owned(),
        Type::Boolean => format!("write `{field}: true` or `{field}: false`"),
        Type::Integer { .. } => format!("write a number, as in `{field}: 8090`"),
        Type::Duration => format!("write a number and a unit, as in `{field}: 30s`"),
        Type::Size => format!("write a number and a unit, as in `{field}: 1MiB`"),
        Type::Name(Role::Router) => "write the name of a router".to_owned(),
        Type::Name(_) => "write `namespace/name`".to_owned(),
        Type::Choice { .. } => format!("it takes {}", expected(kind)),
        Type::Checked(check) => check.help.to_owned(),
        Type::Either { keyed, .. } => match keyed.first() {
            Some((key, _)) => format!("write it as in `{field}: {{{key}: …}}`"),
            None => format!("it takes {}", expected(kind)),
        },
        Type::List { .. } => format!("write it as in `{field}: [one, two]`"),
        Type::Map { .. } => "write `key: value` pairs below it, indented".to_owned(),
        Type::Record(record) => format!(
            "write its fields below it, indented: {}",
            list(record.fields.iter().map(|field| field.name))
        ),
    }
}

pub(super) fn alternatives<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

pub(super) fn article(what: &str) -> String {
    // "a URL" is spoken with a consonant.
    let vowel = what.starts_with(['a', 'e', 'i', 'o']);
    format!("{} {what}", if vowel { "an" } else { "a" })
}
