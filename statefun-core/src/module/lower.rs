//! From marked YAML to the value that serde_yaml reads: every field is checked where it stands, and what is well-formed
//! becomes a plain value (durations as numbers, defaults filled in) that the typed spec reads without a surprise.
//!
//! Lowering goes on after a mistake: a bad field counts as absent, so that the rest is checked in the same pass. What a
//! mistake drags along (a misspelt field is also a missing one) is not reported again.

mod scalar;
mod words;

use serde_yaml::value::{Tag, TaggedValue};
use serde_yaml::{Mapping, Value as Yaml};

use self::words::example;
pub(crate) use self::words::expected;
use super::codes;
use super::finding::Finding;
use super::schema::{Absent, Check, Field, Record, Role, Type};
use super::source::{Entry, FileId, Node, Scalar, Span, Value};
use super::suggest::{did_you_mean, list, nearest};

/// A well-formed name that wires things together, found in a spec.
#[derive(Clone)]
pub(crate) struct Fact {
    /// What it stands for.
    pub(crate) role: Role,
    /// The name. It may come from the environment: print `shown`.
    pub(crate) name: String,
    /// The name as written.
    pub(crate) shown: String,
    /// Where it stands.
    pub(crate) span: Span,
    /// Where it stands in the spec, as in `topics[0].targets[1]`.
    pub(crate) path: String,
}

/// What lowering a spec gives.
#[derive(Default)]
pub(crate) struct Lowered {
    /// The value, unless a field is missing or bad that has no default.
    pub(crate) value: Option<Yaml>,
    /// The names in it.
    pub(crate) facts: Vec<Fact>,
    /// Paths of the fields that stand there, bad ones and misspelt ones included.
    pub(crate) present: Vec<String>,
    /// Places of secrets that are written out.
    pub(crate) secrets: Vec<Span>,
    /// Whether names may stand in it that have not been recognised.
    pub(crate) uncertain: bool,
    /// What is wrong.
    pub(crate) findings: Vec<Finding>,
}

/// Checks and lowers the spec of a component. `owner` is the key in whose value the record stands.
pub(crate) fn lower(node: &Node, owner: Span, record: &'static Record) -> Lowered {
    let mut lowering = Lowering {
        out: Lowered::default(),
        path: Vec::new(),
    };
    let value = lowering.record(node, owner, record);
    Lowered {
        value,
        ..lowering.out
    }
}

struct Lowering {
    out: Lowered,
    path: Vec<String>,
}

impl Lowering {
    fn path(&self) -> String {
        let mut path = String::new();
        for part in &self.path {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path.push_str(part);
        }
        path
    }

    /// The innermost field's name, for messages.
    fn field(&self) -> &str {
        self.path
            .iter()
            .rev()
            .find(|part| !part.starts_with('['))
            .map_or("spec", String::as_str)
    }

    fn report(&mut self, finding: Finding) {
        self.out.findings.push(finding);
    }

    fn value(&mut self, node: &Node, kind: &'static Type) -> Option<Yaml> {
        if matches!(node.value, Value::Unreadable) {
            return None;
        }
        match kind {
            Type::Record(record) => self.record(node, node.span, record),
            Type::List { item } => self.list(node, kind, item),
            Type::Map { key, value } => self.map(node, kind, *key, value),
            Type::Either { words, keyed } => self.either(node, kind, words, keyed),
            _ => match &node.value {
                Value::Scalar(scalar) => self.scalar(scalar, node.span, kind),
                _ => self.wrong_type(node, kind),
            },
        }
    }

    fn wrong_type<T>(&mut self, node: &Node, kind: &Type) -> Option<T> {
        let field = self.field();
        let finding = Finding::new(
            codes::WRONG_TYPE,
            format!(
                "`{field}` takes {}, and this is {}",
                expected(kind),
                node.describe()
            ),
        )
        .at(node.span, format!("expected {}", expected(kind)));
        let help = match (kind, node.scalar()) {
            (Type::List { .. }, Some(scalar)) => {
                format!("write it as a list: `{field}: [{}]`", scalar.shown())
            }
            _ => example(kind, field),
        };
        self.report(finding.help(help));
        None
    }

    fn list(&mut self, node: &Node, kind: &'static Type, item: &'static Type) -> Option<Yaml> {
        let Value::List(items) = &node.value else {
            return self.wrong_type(node, kind);
        };
        let mut values = Vec::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            self.path.push(format!("[{index}]"));
            if let Some(value) = self.value(node, item) {
                values.push(value);
            }
            self.path.pop();
        }
        Some(Yaml::Sequence(values))
    }

    fn map(
        &mut self,
        node: &Node,
        kind: &'static Type,
        key: Option<&'static Check>,
        value: &'static Type,
    ) -> Option<Yaml> {
        let Value::Map(entries) = &node.value else {
            return self.wrong_type(node, kind);
        };
        let mut mapping = Mapping::new();
        for entry in entries {
            if let Some(check) = key
                && let Err(problem) = (check.check)(&entry.key)
            {
                self.report(
                    Finding::new(
                        check.code,
                        format!("this is not a {}: {problem}", check.what),
                    )
                    .at(entry.key_span, format!("not a {}", check.what))
                    .help(check.help),
                );
            }
            self.path.push(entry.key.clone());
            if let Some(value) = self.value(&entry.value, value) {
                mapping.insert(Yaml::String(entry.key.clone()), value);
            }
            self.path.pop();
        }
        Some(Yaml::Mapping(mapping))
    }

    fn either(
        &mut self,
        node: &Node,
        kind: &'static Type,
        words: &'static [&'static str],
        keyed: &'static [(&'static str, Type)],
    ) -> Option<Yaml> {
        match &node.value {
            Value::Scalar(scalar) if !words.is_empty() || is_key(keyed, &scalar.text) => {
                if words.contains(&scalar.text.as_str()) {
                    return Some(Yaml::String(scalar.text.clone()));
                }
                let help = if is_key(keyed, &scalar.text) {
                    format!(
                        "it needs a value: `{}: {{{}: …}}`",
                        self.field(),
                        scalar.shown()
                    )
                } else {
                    did_you_mean(&scalar.text, words.iter().copied())
                        .unwrap_or_else(|| format!("write {}", expected(kind)))
                };
                self.unknown_value(scalar, node.span, kind, help)
            }
            Value::Map(entries) => match entries.as_slice() {
                [entry] => self.keyed(entry, kind, words, keyed),
                [] => self.wrong_type(node, kind),
                [first, second, ..] => {
                    let field = self.field();
                    let finding = Finding::new(
                        codes::CONTRADICTION,
                        format!("`{field}` takes one of its forms, not several at once"),
                    )
                    .at(second.key_span, "and another one")
                    .related(first.key_span, "one form")
                    .help("keep one of them");
                    self.report(finding);
                    None
                }
            },
            _ => self.wrong_type(node, kind),
        }
    }

    fn keyed(
        &mut self,
        entry: &Entry,
        kind: &'static Type,
        words: &'static [&'static str],
        keyed: &'static [(&'static str, Type)],
    ) -> Option<Yaml> {
        let Some((name, inner)) = keyed.iter().find(|(name, _)| *name == entry.key) else {
            let help = if words.contains(&entry.key.as_str()) {
                format!("it takes no value: `{}: {}`", self.field(), entry.key)
            } else {
                let known = keyed.iter().map(|(name, _)| *name);
                did_you_mean(&entry.key, known)
                    .unwrap_or_else(|| format!("write {}", expected(kind)))
            };
            let finding = Finding::new(
                codes::UNKNOWN_VALUE,
                format!("`{}` is not a form of `{}`", entry.key, self.field()),
            )
            .at(entry.key_span, "unknown form")
            .help(help);
            self.report(finding);
            return None;
        };
        self.path.push((*name).to_owned());
        let value = if matches!(entry.value.value, Value::Null) {
            self.no_value(entry.key_span, name)
        } else {
            self.value(&entry.value, inner)
        };
        self.path.pop();
        value.map(|value| {
            Yaml::Tagged(Box::new(TaggedValue {
                tag: Tag::new(*name),
                value,
            }))
        })
    }

    fn no_value<T>(&mut self, key: Span, name: &str) -> Option<T> {
        self.report(
            Finding::new(codes::MISSING_FIELD, format!("`{name}` has no value"))
                .at(key, "nothing behind it")
                .help("give it a value; mind the indentation of what follows"),
        );
        None
    }

    fn record(&mut self, node: &Node, owner: Span, record: &'static Record) -> Option<Yaml> {
        let Value::Map(entries) = &node.value else {
            return match &node.value {
                Value::Unreadable => None,
                _ => self.wrong_type(node, &Type::Record(record)),
            };
        };
        let mut found: Vec<(&'static Field, Option<Yaml>)> = Vec::new();
        let mut unknown: Vec<&Entry> = Vec::new();
        let mut bad: Vec<&Node> = Vec::new();
        for entry in entries {
            let Some(field) = record.field(&entry.key) else {
                unknown.push(entry);
                continue;
            };
            self.path.push(field.name.to_owned());
            let path = self.path();
            if !matches!(entry.value.value, Value::Null) {
                self.out.present.push(path);
                let value = self.value(&entry.value, field.kind);
                if value.is_none() {
                    bad.push(&entry.value);
                }
                found.push((field, value));
            } else if field.absent == Absent::Refused {
                self.out.present.push(path);
                let value = self.no_value(entry.key_span, field.name);
                found.push((field, value));
            }
            self.path.pop();
        }
        if !unknown.is_empty() {
            self.nothing_is_absent(record);
        }
        for value in bad {
            self.swallowed(record, value);
        }
        let mut missing: Vec<&'static Field> = Vec::new();
        let strange = self.misspelt_fields(record, unknown, &mut found);
        let mut mapping = Mapping::new();
        let mut complete = true;
        for field in record.fields {
            let known = found.iter_mut().find(|(known, _)| known.name == field.name);
            let stands_there = known.is_some();
            let value = known.and_then(|(_, value)| value.take());
            let value = match value {
                Some(value) => Some(value),
                None => match field.absent {
                    Absent::Refused => {
                        if !stands_there {
                            missing.push(field);
                        }
                        complete = false;
                        None
                    }
                    Absent::Nothing => None,
                    Absent::EmptyList => Some(Yaml::Sequence(Vec::new())),
                    Absent::EmptyMap => Some(default_of(field.kind)),
                    Absent::Default(text) => default_text(text, field.kind),
                },
            };
            if let Some(value) = value {
                mapping.insert(Yaml::String(field.name.to_owned()), value);
            }
        }
        self.strange_and_missing(record, &strange, &missing, owner);
        complete.then_some(Yaml::Mapping(mapping))
    }

    /// Reports the fields that the record does not have and that are like one it has; returns the others.
    ///
    /// The value of a misspelt field is read as that of the field meant, so that what refers to it is not reported as well.
    fn misspelt_fields<'n>(
        &mut self,
        record: &'static Record,
        unknown: Vec<&'n Entry>,
        found: &mut Vec<(&'static Field, Option<Yaml>)>,
    ) -> Vec<&'n Entry> {
        let mut strange = Vec::new();
        for entry in unknown {
            let absent = record
                .fields
                .iter()
                .filter(|field| !found.iter().any(|(known, _)| known.name == field.name))
                .map(|field| field.name);
            let meant = nearest(&entry.key, absent).and_then(|name| record.field(name));
            let all = record.fields.iter().map(|field| field.name);
            let near = nearest(&entry.key, all).and_then(|name| record.field(name));
            let help = match (meant, near) {
                (Some(field), _) => format!("did you mean `{}`?", field.name),
                (None, Some(field)) => {
                    if let (Type::Secret, Some(scalar)) = (field.kind, entry.value.scalar()) {
                        self.hide(scalar, entry.value.span);
                    }
                    format!("did you mean `{}`, which stands here already?", field.name)
                }
                (None, None) if entry.key == "<<" => {
                    "YAML's merge key is not read here; write the fields out".to_owned()
                }
                (None, None) => {
                    strange.push(entry);
                    continue;
                }
            };
            let finding = self.unknown_field(entry).help(help);
            self.report(finding);
            if let Some(field) = meant {
                self.path.push(field.name.to_owned());
                let path = self.path();
                self.out.present.push(path);
                let before = self.out.findings.len();
                let value = self.value(&entry.value, field.kind);
                // The guess may be wrong, so what is wrong with its value is not said.
                self.out.findings.truncate(before);
                self.path.pop();
                found.push((field, value));
            }
        }
        strange
    }

    fn unknown_field(&self, entry: &Entry) -> Finding {
        let place = if self.path.is_empty() {
            String::new()
        } else {
            format!(" of `{}`", self.field())
        };
        Finding::new(
            codes::UNKNOWN_FIELD,
            format!("`{}` is not a field{place}", entry.key),
        )
        .at(entry.key_span, "unknown field")
    }

    /// Reports fields that are like none of the record, all at once, and fields that are missing. Where both are, they are
    /// most likely a single mistake: another name, or a line lost that they stood under.
    fn strange_and_missing(
        &mut self,
        record: &'static Record,
        strange: &[&Entry],
        missing: &[&'static Field],
        owner: Span,
    ) {
        if let [first, others @ ..] = strange {
            let help = if let [field] = missing {
                let name = field.name;
                if others.is_empty() {
                    format!("`{name}` is missing: is that what it should be?")
                } else {
                    format!("`{name}` is missing: do these belong under it?")
                }
            } else {
                format!(
                    "known here: {}",
                    list(record.fields.iter().map(|field| field.name))
                )
            };
            let mut finding = self.unknown_field(first).help(help);
            for other in others {
                finding = finding.related(other.key_span, "nor is this");
            }
            self.report(finding);
            if missing.len() == 1 {
                return;
            }
        }
        for field in missing {
            let first = field.doc.trim().lines().next().unwrap_or_default().trim();
            let place = if self.path.is_empty() {
                "the component".to_owned()
            } else {
                format!("`{}`", self.field())
            };
            self.report(
                Finding::new(
                    codes::MISSING_FIELD,
                    format!("{place} lacks the field `{}`", field.name),
                )
                .at(owner, format!("`{}` is missing here", field.name))
                .help(format!("`{}`: {first}", field.name)),
            );
        }
    }

    /// A bad value that goes on in the next line has most likely swallowed the field that begins there.
    fn swallowed(&mut self, record: &'static Record, value: &Node) {
        if !value.scalar().is_some_and(|scalar| scalar.folded) {
            return;
        }
        if let Some(finding) = self.out.findings.last_mut() {
            finding.help =
                Some("the value goes on in the next line: is a key missing there?".to_owned());
        }
        self.nothing_is_absent(record);
    }

    /// A field of this record may stand there unrecognised, so none may be called absent.
    fn nothing_is_absent(&mut self, record: &'static Record) {
        self.out.uncertain = true;
        let prefix = self.path();
        for field in record.fields {
            let dot = if prefix.is_empty() { "" } else { "." };
            self.out
                .present
                .push(format!("{prefix}{dot}{}", field.name));
        }
    }
}

fn is_key(keyed: &[(&'static str, Type)], text: &str) -> bool {
    keyed.iter().any(|(name, _)| *name == text)
}

/// The value of an absent record or map.
fn default_of(kind: &'static Type) -> Yaml {
    let mut mapping = Mapping::new();
    if let Type::Record(record) = kind {
        for field in record.fields {
            let value = match field.absent {
                Absent::Refused | Absent::Nothing => None,
                Absent::EmptyList => Some(Yaml::Sequence(Vec::new())),
                Absent::EmptyMap => Some(default_of(field.kind)),
                Absent::Default(text) => default_text(text, field.kind),
            };
            if let Some(value) = value {
                mapping.insert(Yaml::String(field.name.to_owned()), value);
            }
        }
    }
    Yaml::Mapping(mapping)
}

/// A default, which is one scalar.
fn default_text(text: &str, kind: &'static Type) -> Option<Yaml> {
    let nowhere = Span {
        file: FileId(0),
        start: 0,
        end: 0,
    };
    let mut lowering = Lowering {
        out: Lowered::default(),
        path: Vec::new(),
    };
    let node = Node {
        span: nowhere,
        value: Value::Scalar(Scalar {
            text: text.to_owned(),
            written: text.to_owned(),
            quoted: false,
            folded: false,
        }),
    };
    lowering.value(&node, kind)
}
