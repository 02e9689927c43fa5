//! From marked YAML to the value that serde_yaml reads: every field is checked where it stands, and what is well-formed
//! becomes a plain value (durations as numbers, defaults filled in) that the typed spec reads without a surprise.
//!
//! Lowering goes on after a mistake: a bad field counts as absent, so that the rest is checked in the same pass. What a
//! mistake drags along (a misspelt field is also a missing one) is not reported again.

use serde_yaml::value::{Tag, TaggedValue};
use serde_yaml::{Mapping, Value as Yaml};

use super::codes::{self, Code};
use super::finding::Finding;
use super::model::{check_plain, check_qualified};
use super::schema::{Absent, Check, Field, Record, Role, Type};
use super::source::secrets::is_written_out;
use super::source::{Entry, FileId, Node, Scalar, Span, Value};
use super::suggest::{did_you_mean, list, nearest};
use super::units::{UnitError, parse_duration, parse_size};

/// A well-formed name that wires things together, found in a spec.
#[derive(Debug, Clone)]
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
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    /// The value, unless a field is missing or bad that has no default.
    pub(crate) value: Option<Yaml>,
    /// The names in it.
    pub(crate) facts: Vec<Fact>,
    /// Paths of the fields that stand there, bad ones and misspelt ones included.
    pub(crate) present: Vec<String>,
    /// Places of secrets that are written out.
    pub(crate) secrets: Vec<Span>,
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
                format!("write it as a list: `{field}: [{}]`", scalar.written)
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
                        scalar.written
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

    fn unknown_value<T>(
        &mut self,
        scalar: &Scalar,
        span: Span,
        kind: &Type,
        help: String,
    ) -> Option<T> {
        let finding = Finding::new(
            codes::UNKNOWN_VALUE,
            format!("`{}` cannot be `{}`", self.field(), scalar.written),
        )
        .at(span, format!("expected {}", expected(kind)))
        .help(help);
        self.report(finding);
        None
    }

    /// A value that is one scalar.
    fn scalar(&mut self, scalar: &Scalar, span: Span, kind: &'static Type) -> Option<Yaml> {
        let text = scalar.text.as_str();
        match kind {
            Type::Text => Some(Yaml::String(text.to_owned())),
            Type::Secret => {
                self.hide(scalar, span);
                Some(Yaml::String(text.to_owned()))
            }
            Type::Boolean => self.boolean(scalar, span, kind),
            Type::Integer { min, max } => self.integer(scalar, span, kind, *min, *max),
            Type::Duration => match parse_duration(text) {
                Ok(duration) => {
                    let mut mapping = Mapping::new();
                    mapping.insert("secs".into(), duration.as_secs().into());
                    mapping.insert("nanos".into(), duration.subsec_nanos().into());
                    Some(Yaml::Mapping(mapping))
                }
                Err(error) => {
                    let help = match &error {
                        UnitError::NoUnit { .. } => format!(
                            "write `{0}s` or `{0}ms`; Flink would take it for milliseconds",
                            scalar.written
                        ),
                        UnitError::UnknownUnit {
                            nearest: Some(unit),
                        } => format!("did you mean `{unit}`?"),
                        UnitError::Fraction => {
                            "write a whole number of a smaller unit, as in `1500ms`".to_owned()
                        }
                        UnitError::TooLarge => "the longest is a thousand years".to_owned(),
                        _ => "units are ns, us, ms, s, min, h and d, as in `30s` or `1 min`"
                            .to_owned(),
                    };
                    self.bad_unit(codes::BAD_DURATION, "duration", scalar, span, &error, help)
                }
            },
            Type::Size => match parse_size(text) {
                Ok(size) => Some(Yaml::Number(size.bytes().into())),
                Err(error) => {
                    let help = match &error {
                        UnitError::UnknownUnit {
                            nearest: Some(unit),
                        } => format!("did you mean `{unit}`?"),
                        UnitError::Fraction => {
                            "write a whole number of a smaller unit, as in `1536kb`".to_owned()
                        }
                        _ => "units are b, kb, mb, gb and tb (powers of 1,024), as in `512kb` or `1MiB`".to_owned(),
                    };
                    self.bad_unit(codes::BAD_SIZE, "size", scalar, span, &error, help)
                }
            },
            Type::Name(role) => self.name(scalar, span, *role),
            Type::Choice { words } => {
                if words.contains(&text) {
                    return Some(Yaml::String(text.to_owned()));
                }
                let help = did_you_mean(text, words.iter().copied())
                    .unwrap_or_else(|| format!("it takes {}", expected(kind)));
                self.unknown_value(scalar, span, kind, help)
            }
            Type::Checked(check) => match (check.check)(text) {
                Ok(()) => Some(Yaml::String(text.to_owned())),
                Err(problem) => {
                    self.report(
                        Finding::new(
                            check.code,
                            format!("this is not {}: {problem}", article(check.what)),
                        )
                        .at(span, format!("not {}", article(check.what)))
                        .help(check.help),
                    );
                    None
                }
            },
            Type::Either { .. } | Type::List { .. } | Type::Map { .. } | Type::Record(_) => None,
        }
    }

    fn bad_unit<T>(
        &mut self,
        code: &'static Code,
        what: &str,
        scalar: &Scalar,
        span: Span,
        error: &UnitError,
        help: String,
    ) -> Option<T> {
        self.report(
            Finding::new(
                code,
                format!("`{}` is not a {what}: {error}", scalar.written),
            )
            .at(span, format!("not a {what}"))
            .help(help),
        );
        None
    }

    fn boolean(&mut self, scalar: &Scalar, span: Span, kind: &Type) -> Option<Yaml> {
        let lower = scalar.text.to_ascii_lowercase();
        match lower.as_str() {
            "true" => return Some(Yaml::Bool(true)),
            "false" => return Some(Yaml::Bool(false)),
            _ => {}
        }
        let meant = match lower.as_str() {
            "yes" | "on" | "y" | "1" => Some("true"),
            "no" | "off" | "n" | "0" => Some("false"),
            _ => nearest(&lower, ["true", "false"]),
        };
        let field = self.field();
        let finding = Finding::new(
            codes::WRONG_TYPE,
            format!(
                "`{field}` takes {}, not `{}`",
                expected(kind),
                scalar.written
            ),
        )
        .at(span, format!("expected {}", expected(kind)))
        .help(meant.map_or_else(|| example(kind, field), |meant| format!("write `{meant}`")));
        self.report(finding);
        None
    }

    fn integer(
        &mut self,
        scalar: &Scalar,
        span: Span,
        kind: &Type,
        min: u64,
        max: u64,
    ) -> Option<Yaml> {
        let text = scalar.text.trim();
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            let field = self.field();
            let finding = Finding::new(
                codes::WRONG_TYPE,
                format!(
                    "`{field}` takes {}, not `{}`",
                    expected(kind),
                    scalar.written
                ),
            )
            .at(span, format!("expected {}", expected(kind)))
            .help(example(kind, field));
            self.report(finding);
            return None;
        }
        let number = if text.starts_with('-') {
            None
        } else {
            digits.parse::<u64>().ok()
        };
        if let Some(number) = number.filter(|number| (min..=max).contains(number)) {
            return Some(Yaml::Number(number.into()));
        }
        let field = self.field();
        let finding = Finding::new(
            codes::OUT_OF_RANGE,
            format!("`{field}` cannot be {}", scalar.written),
        )
        .at(span, "out of range")
        .help(format!("it takes a whole number from {min} to {max}"));
        self.report(finding);
        None
    }

    fn name(&mut self, scalar: &Scalar, span: Span, role: Role) -> Option<Yaml> {
        let (check, help): (Result<(), String>, _) = if role == Role::Router {
            (
                check_plain(&scalar.text),
                "a router's name is that of its Rust function",
            )
        } else {
            (check_qualified(&scalar.text), "write `namespace/name`")
        };
        match check {
            Ok(()) => {
                let path = self.path();
                self.out.facts.push(Fact {
                    role,
                    name: scalar.text.clone(),
                    shown: scalar.written.clone(),
                    span,
                    path,
                });
                Some(Yaml::String(scalar.text.clone()))
            }
            Err(problem) => {
                let what = role.what();
                self.report(
                    Finding::new(
                        codes::BAD_NAME,
                        format!("`{}` is not {}: {problem}", scalar.written, article(what)),
                    )
                    .at(span, format!("not {}", article(what)))
                    .help(help),
                );
                None
            }
        }
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
                found.push((field, value));
            } else if field.absent == Absent::Refused {
                self.out.present.push(path);
                let value = self.no_value(entry.key_span, field.name);
                found.push((field, value));
            }
            self.path.pop();
        }
        let mut missing: Vec<&'static Field> = Vec::new();
        self.unknown_fields(record, &unknown, &mut found);
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
        self.missing_fields(&missing, &unknown, owner);
        complete.then_some(Yaml::Mapping(mapping))
    }

    /// Reports the fields that the record does not have. The value of a misspelt one is read as that of the field meant,
    /// so that what refers to it is not reported as well.
    fn unknown_fields(
        &mut self,
        record: &'static Record,
        unknown: &[&Entry],
        found: &mut Vec<(&'static Field, Option<Yaml>)>,
    ) {
        for entry in unknown {
            let absent = record
                .fields
                .iter()
                .filter(|field| !found.iter().any(|(known, _)| known.name == field.name))
                .map(|field| field.name);
            let meant = nearest(&entry.key, absent);
            let all = record.fields.iter().map(|field| field.name);
            let help = match (meant, nearest(&entry.key, all)) {
                (Some(name), _) => format!("did you mean `{name}`?"),
                (None, Some(name)) => {
                    if let (Some(field), Some(scalar)) = (record.field(name), entry.value.scalar())
                        && matches!(field.kind, Type::Secret)
                    {
                        self.hide(scalar, entry.value.span);
                    }
                    format!("did you mean `{name}`, which stands here already?")
                }
                (None, None) if entry.key == "<<" => {
                    "YAML's merge key is not read here; write the fields out".to_owned()
                }
                (None, None) => format!(
                    "known here: {}",
                    list(record.fields.iter().map(|field| field.name))
                ),
            };
            let place = if self.path.is_empty() {
                String::new()
            } else {
                format!(" of `{}`", self.field())
            };
            self.report(
                Finding::new(
                    codes::UNKNOWN_FIELD,
                    format!("`{}` is not a field{place}", entry.key),
                )
                .at(entry.key_span, "unknown field")
                .help(help),
            );
            if let Some(field) = meant.and_then(|name| record.field(name)) {
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
    }

    fn missing_fields(&mut self, missing: &[&'static Field], unknown: &[&Entry], owner: Span) {
        // One unknown field and one missing one are most likely a single mistake, which has its finding.
        if missing.len() == 1 && unknown.len() == 1 {
            let name = missing[0].name;
            if let Some(finding) = self
                .out
                .findings
                .iter_mut()
                .rev()
                .find(|finding| finding.code == codes::UNKNOWN_FIELD)
            {
                finding.help = Some(format!("`{name}` is missing: is that what it should be?"));
            }
            return;
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

    /// Remembers a secret that may stand in the file itself.
    fn hide(&mut self, scalar: &Scalar, span: Span) {
        if is_written_out(scalar) {
            self.out.secrets.push(span);
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
        }),
    };
    lowering.value(&node, kind)
}

/// What a type takes, for messages.
fn expected(kind: &Type) -> String {
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
fn example(kind: &Type, field: &str) -> String {
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

fn alternatives<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn article(what: &str) -> String {
    // "a URL" is spoken with a consonant.
    let vowel = what.starts_with(['a', 'e', 'i', 'o']);
    format!("{} {what}", if vowel { "an" } else { "a" })
}
