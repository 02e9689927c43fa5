//! Fields that hold one scalar.

use serde_yaml::{Mapping, Value as Yaml};

use super::words::{article, example, expected};
use super::{Fact, Lowering};
use crate::module::codes::{self, Code};
use crate::module::finding::Finding;
use crate::module::model::{check_plain, check_qualified};
use crate::module::schema::{Role, Type};
use crate::module::source::secrets::is_written_out;
use crate::module::source::{Scalar, Span};
use crate::module::suggest::{did_you_mean, nearest};
use crate::module::units::{UnitError, parse_duration, parse_size};

impl Lowering {
    /// A value that is one scalar.
    pub(super) fn scalar(
        &mut self,
        scalar: &Scalar,
        span: Span,
        kind: &'static Type,
    ) -> Option<Yaml> {
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
                            scalar.shown()
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

    pub(super) fn bad_unit<T>(
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
                format!("`{}` is not a {what}: {error}", scalar.shown()),
            )
            .at(span, format!("not a {what}"))
            .help(help),
        );
        None
    }

    pub(super) fn boolean(&mut self, scalar: &Scalar, span: Span, kind: &Type) -> Option<Yaml> {
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
                scalar.shown()
            ),
        )
        .at(span, format!("expected {}", expected(kind)))
        .help(meant.map_or_else(|| example(kind, field), |meant| format!("write `{meant}`")));
        self.report(finding);
        None
    }

    pub(super) fn integer(
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
                    scalar.shown()
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
            format!("`{field}` cannot be {}", scalar.shown()),
        )
        .at(span, "out of range")
        .help(format!("it takes a whole number from {min} to {max}"));
        self.report(finding);
        None
    }

    pub(super) fn name(&mut self, scalar: &Scalar, span: Span, role: Role) -> Option<Yaml> {
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
                    shown: scalar.shown().into_owned(),
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
                        format!("`{}` is not {}: {problem}", scalar.shown(), article(what)),
                    )
                    .at(span, format!("not {}", article(what)))
                    .help(help),
                );
                None
            }
        }
    }

    pub(super) fn unknown_value<T>(
        &mut self,
        scalar: &Scalar,
        span: Span,
        kind: &Type,
        help: String,
    ) -> Option<T> {
        let finding = Finding::new(
            codes::UNKNOWN_VALUE,
            format!("`{}` cannot be `{}`", self.field(), scalar.shown()),
        )
        .at(span, format!("expected {}", expected(kind)))
        .help(help);
        self.report(finding);
        None
    }

    /// Remembers a secret that may stand in the file itself.
    pub(super) fn hide(&mut self, scalar: &Scalar, span: Span) {
        if is_written_out(scalar) {
            self.out.secrets.push(span);
        }
    }
}
