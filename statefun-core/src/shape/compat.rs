//! Whether bytes of one shape can be read as another, and shapes as text.

use std::fmt;

use thiserror::Error;

use crate::shape::{Shape, Variant};

/// Why bytes of the old shape cannot be read as the new.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("`{path}`: ") })]
pub struct Incompatible {
    /// Where, as a path of fields.
    pub path: String,
    /// Why.
    pub problem: String,
}

impl Incompatible {
    pub(crate) fn new(path: &str, problem: String) -> Self {
        Self {
            path: path.to_owned(),
            problem,
        }
    }
}

/// Whether what was written in the old shape can be read in the new one without losing anything: fields may be added when they
/// are optional or defaulted, integers may grow, a value may become an `Option`, and variants may be added.
pub fn reads(old: &Shape, new: &Shape) -> Result<(), Incompatible> {
    check("", old, new)
}

fn check(path: &str, old: &Shape, new: &Shape) -> Result<(), Incompatible> {
    let differ = || {
        Err(Incompatible::new(
            path,
            format!("it was {old}, and is {new}"),
        ))
    };
    match (old, new) {
        (Shape::Int(a), Shape::Int(b))
        | (Shape::Uint(a), Shape::Uint(b))
        | (Shape::Float(a), Shape::Float(b))
            if a <= b =>
        {
            Ok(())
        }
        (Shape::Uint(a), Shape::Int(b)) if a < b => Ok(()),
        (Shape::Option(a), Shape::Option(b)) | (Shape::Seq(a), Shape::Seq(b)) => check(path, a, b),
        (a, Shape::Option(b)) => check(path, a, b),
        (Shape::Map(a, x), Shape::Map(b, y)) => check(path, a, b).and_then(|()| check(path, x, y)),
        (Shape::Tuple(a), Shape::Tuple(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .try_for_each(|(index, (a, b))| check(&join(path, &index.to_string()), a, b)),
        (Shape::Struct { fields: a, .. }, Shape::Struct { fields: b, .. }) => {
            for field in b {
                match a.iter().find(|known| known.name == field.name) {
                    Some(known) => check(&join(path, &field.name), &known.shape, &field.shape)?,
                    None if field.optional => {}
                    None => {
                        return Err(Incompatible::new(
                            &join(path, &field.name),
                            "the field is new, and neither an `Option` nor defaulted".to_owned(),
                        ));
                    }
                }
            }
            match a
                .iter()
                .find(|known| !b.iter().any(|field| field.name == known.name))
            {
                Some(gone) => Err(Incompatible::new(
                    &join(path, &gone.name),
                    "the field is gone; its data would be lost".to_owned(),
                )),
                None => Ok(()),
            }
        }
        (Shape::Enum { variants: a, .. }, Shape::Enum { variants: b, .. }) => {
            a.iter().try_for_each(|Variant { name, shape }| {
                let path = join(path, name);
                match b.iter().find(|known| known.name == *name) {
                    Some(known) => check(&path, shape, &known.shape),
                    None => Err(Incompatible::new(&path, "the variant is gone".to_owned())),
                }
            })
        }
        // Names of Rust types are not in the bytes.
        (Shape::Recursive(_), Shape::Recursive(_)) => Ok(()),
        (a, b) if a == b => Ok(()),
        _ => differ(),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit => f.write_str("()"),
            Self::Bool => f.write_str("bool"),
            Self::Int(bits) => write!(f, "i{bits}"),
            Self::Uint(bits) => write!(f, "u{bits}"),
            Self::Float(bits) => write!(f, "f{bits}"),
            Self::Char => f.write_str("char"),
            Self::String => f.write_str("String"),
            Self::Bytes => f.write_str("bytes"),
            Self::Option(inner) => write!(f, "Option<{inner}>"),
            Self::Seq(inner) => write!(f, "[{inner}]"),
            Self::Map(key, value) => write!(f, "{{{key}: {value}}}"),
            Self::Tuple(items) => {
                f.write_str("(")?;
                separated(f, items.iter().map(|item| ("", item, "")))?;
                f.write_str(")")
            }
            Self::Struct { name, fields } => {
                write!(f, "{name} {{ ")?;
                let optional = |optional| if optional { "?: " } else { ": " };
                separated(
                    f,
                    fields
                        .iter()
                        .map(|field| (field.name.as_str(), &field.shape, optional(field.optional))),
                )?;
                f.write_str(" }")
            }
            Self::Enum { name, variants } => {
                write!(f, "{name} (")?;
                for (index, variant) in variants.iter().enumerate() {
                    let separator = if index > 0 { " | " } else { "" };
                    write!(f, "{separator}{}", variant.name)?;
                    if variant.shape != Self::Unit {
                        write!(f, " {}", variant.shape)?;
                    }
                }
                f.write_str(")")
            }
            Self::Recursive(name) | Self::Opaque(name) => f.write_str(name),
        }
    }
}

fn separated<'a>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = (&'a str, &'a Shape, &'a str)>,
) -> fmt::Result {
    for (index, (name, shape, mark)) in items.enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        write!(f, "{separator}{name}{mark}{shape}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Field;

    fn cart(fields: &[(&str, Shape, bool)]) -> Shape {
        let field = |(name, shape, optional): &(&str, Shape, bool)| Field {
            name: (*name).to_owned(),
            shape: shape.clone(),
            optional: *optional,
        };
        Shape::Struct {
            name: "Cart".to_owned(),
            fields: fields.iter().map(field).collect(),
        }
    }

    #[test]
    fn a_defaulted_field_may_be_added_and_nothing_may_be_lost() {
        let old = cart(&[("items", Shape::Seq(Box::new(Shape::String)), false)]);
        let more = |optional| {
            cart(&[
                ("items", Shape::Seq(Box::new(Shape::String)), false),
                ("total", Shape::Uint(64), optional),
            ])
        };
        assert_eq!(reads(&old, &more(true)), Ok(()));
        assert_eq!(reads(&old, &more(false)).unwrap_err().path, "total");
        assert_eq!(reads(&more(true), &old).unwrap_err().path, "total");
        let renamed = cart(&[("items", Shape::Seq(Box::new(Shape::Uint(8))), false)]);
        assert_eq!(
            reads(&old, &renamed).unwrap_err().to_string(),
            "`items`: it was String, and is u8"
        );
        assert_eq!(old.to_string(), "Cart { items: [String] }");
    }

    #[test]
    fn numbers_may_grow_and_values_may_become_optional() {
        assert_eq!(reads(&Shape::Uint(32), &Shape::Uint(64)), Ok(()));
        assert_eq!(reads(&Shape::Uint(32), &Shape::Int(64)), Ok(()));
        assert!(reads(&Shape::Uint(64), &Shape::Int(64)).is_err());
        assert!(reads(&Shape::Uint(64), &Shape::Uint(32)).is_err());
        assert_eq!(
            reads(&Shape::Bool, &Shape::Option(Box::new(Shape::Bool))),
            Ok(())
        );
        assert!(reads(&Shape::Option(Box::new(Shape::Bool)), &Shape::Bool).is_err());
    }
}
