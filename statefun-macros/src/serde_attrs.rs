//! The `#[serde(…)]` attributes that change how a type is laid out. Their mistakes are for serde to report.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, Ident, LitStr, Token, Type};

/// What `#[serde(…)]` says of a type, variant or field, as far as it changes the layout.
#[derive(Default)]
pub(crate) struct SerdeAttrs {
    pub(crate) rename: Option<String>,
    pub(crate) rename_all: Option<Case>,
    pub(crate) rename_all_fields: Option<Case>,
    pub(crate) default: bool,
    pub(crate) skip: bool,
    pub(crate) skip_serializing: bool,
    pub(crate) skip_deserializing: bool,
    pub(crate) flatten: bool,
    pub(crate) transparent: bool,
    pub(crate) untagged: bool,
    pub(crate) tag: Option<String>,
    pub(crate) content: Option<String>,
    /// The path of `with` or `serialize_with`.
    pub(crate) written_with: Option<String>,
    /// `with` or `deserialize_with`: an absent `Option` is not simply none then.
    pub(crate) read_with: bool,
    /// The type that is written instead.
    pub(crate) into: Option<Type>,
    /// `#[serde(crate = …)]` is there.
    pub(crate) names_crate: bool,
}

impl SerdeAttrs {
    pub(crate) fn of(attributes: &[Attribute]) -> Self {
        let mut found = Self::default();
        for attribute in attributes
            .iter()
            .filter(|attribute| attribute.path().is_ident("serde"))
        {
            // Serde's own derive reports what does not parse.
            let _ = attribute.parse_nested_meta(|meta| found.read(&meta));
        }
        found
    }

    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let Some(key) = meta.path.get_ident().map(Ident::to_string) else {
            return skip_value(meta);
        };
        match key.as_str() {
            "rename" => self.rename = written(meta)?.or(self.rename.take()),
            "rename_all" => self.rename_all = written(meta)?.and_then(|name| Case::named(&name)),
            "rename_all_fields" => {
                self.rename_all_fields = written(meta)?.and_then(|name| Case::named(&name));
            }
            "tag" => self.tag = Some(text(meta)?),
            "content" => self.content = Some(text(meta)?),
            "into" => self.into = syn::parse_str(&text(meta)?).ok(),
            "with" => {
                self.written_with = Some(text(meta)?);
                self.read_with = true;
            }
            "serialize_with" => self.written_with = Some(text(meta)?),
            "deserialize_with" => {
                text(meta)?;
                self.read_with = true;
            }
            "default" => {
                self.default = true;
                skip_value(meta)?;
            }
            "crate" => {
                self.names_crate = true;
                skip_value(meta)?;
            }
            "skip" => self.skip = true,
            "skip_serializing" => self.skip_serializing = true,
            "skip_deserializing" => self.skip_deserializing = true,
            "flatten" => self.flatten = true,
            "transparent" => self.transparent = true,
            "untagged" => self.untagged = true,
            _ => skip_value(meta)?,
        }
        Ok(())
    }

    /// Whether it is not written at all.
    pub(crate) fn unwritten(&self) -> bool {
        self.skip || self.skip_serializing
    }
}

fn text(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    Ok(meta.value()?.parse::<LitStr>()?.value())
}

/// `= "name"`, or the `serialize = "name"` of a list.
fn written(meta: &ParseNestedMeta<'_>) -> syn::Result<Option<String>> {
    if meta.input.peek(Token![=]) {
        return text(meta).map(Some);
    }
    let mut name = None;
    meta.parse_nested_meta(|side| {
        let value = text(&side)?;
        if side.path.is_ident("serialize") {
            name = Some(value);
        }
        Ok(())
    })?;
    Ok(name)
}

fn skip_value(meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let inside;
        syn::parenthesized!(inside in meta.input);
        inside.parse::<TokenStream>()?;
    }
    Ok(())
}

/// Serde's conventions for `rename_all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Case {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "lowercase" => Self::Lower,
            "UPPERCASE" => Self::Upper,
            "PascalCase" => Self::Pascal,
            "camelCase" => Self::Camel,
            "snake_case" => Self::Snake,
            "SCREAMING_SNAKE_CASE" => Self::ScreamingSnake,
            "kebab-case" => Self::Kebab,
            "SCREAMING-KEBAB-CASE" => Self::ScreamingKebab,
            _ => return None,
        })
    }

    /// A variant's name, which is written in PascalCase.
    pub(crate) fn of_variant(self, name: &str) -> String {
        match self {
            Self::Pascal => name.to_owned(),
            Self::Lower => name.to_ascii_lowercase(),
            Self::Upper => name.to_ascii_uppercase(),
            Self::Camel => first(name, char::to_ascii_lowercase),
            Self::Snake => {
                let mut snake = String::new();
                for (at, letter) in name.char_indices() {
                    if at > 0 && letter.is_uppercase() {
                        snake.push('_');
                    }
                    snake.push(letter.to_ascii_lowercase());
                }
                snake
            }
            Self::ScreamingSnake => Self::Snake.of_variant(name).to_ascii_uppercase(),
            Self::Kebab => Self::Snake.of_variant(name).replace('_', "-"),
            Self::ScreamingKebab => Self::ScreamingSnake.of_variant(name).replace('_', "-"),
        }
    }

    /// A field's name, which is written in snake_case.
    pub(crate) fn of_field(self, name: &str) -> String {
        match self {
            Self::Lower | Self::Snake => name.to_owned(),
            Self::Upper | Self::ScreamingSnake => name.to_ascii_uppercase(),
            Self::Pascal => {
                let mut pascal = String::new();
                let mut capital = true;
                for letter in name.chars() {
                    if letter == '_' {
                        capital = true;
                    } else if capital {
                        pascal.push(letter.to_ascii_uppercase());
                        capital = false;
                    } else {
                        pascal.push(letter);
                    }
                }
                pascal
            }
            Self::Camel => first(&Self::Pascal.of_field(name), char::to_ascii_lowercase),
            Self::Kebab => name.replace('_', "-"),
            Self::ScreamingKebab => Self::ScreamingSnake.of_field(name).replace('_', "-"),
        }
    }
}

fn first(name: &str, change: impl Fn(&char) -> char) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map(|letter| change(&letter))
        .into_iter()
        .chain(letters)
        .collect()
}

/// The name of a field as serialized.
pub(crate) fn field_name(ident: &Ident, attributes: &SerdeAttrs, all: Option<Case>) -> String {
    let name = ident.unraw().to_string();
    attributes
        .rename
        .clone()
        .unwrap_or_else(|| all.map_or_else(|| name.clone(), |case| case.of_field(&name)))
}

/// The name of a variant as serialized.
pub(crate) fn variant_name(ident: &Ident, attributes: &SerdeAttrs, all: Option<Case>) -> String {
    let name = ident.unraw().to_string();
    attributes
        .rename
        .clone()
        .unwrap_or_else(|| all.map_or_else(|| name.clone(), |case| case.of_variant(&name)))
}

/// Whether a type is written as `Option<…>`, under whatever path.
pub(crate) fn is_option(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|name| name == "Option")
}

/// The last segment of a type's path.
pub(crate) fn last_segment(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .map(|segment| segment.ident.unraw().to_string()),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// Whether one of the attributes has this name, under whatever path.
pub(crate) fn has_attribute(attributes: &[Attribute], name: &str) -> bool {
    find_attribute(attributes, name).is_some()
}

/// The attribute of this name, under whatever path.
pub(crate) fn find_attribute<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a Attribute> {
    attributes
        .iter()
        .find(|attribute| is_attribute(attribute, name))
}

/// Whether an attribute has this name, under whatever path.
pub(crate) fn is_attribute(attribute: &Attribute, name: &str) -> bool {
    attribute
        .path()
        .segments
        .last()
        .is_some_and(|segment| segment.ident == name)
}

/// A type as text, to name it in a shape.
pub(crate) fn type_text(ty: &Type) -> String {
    ty.to_token_stream().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of serde's own tests.
    #[test]
    fn names_are_those_of_serde() {
        let cases = [
            Case::Lower,
            Case::Upper,
            Case::Pascal,
            Case::Camel,
            Case::Snake,
            Case::ScreamingSnake,
            Case::Kebab,
            Case::ScreamingKebab,
        ];
        for (original, expected) in [
            (
                "Outcome",
                [
                    "outcome", "OUTCOME", "Outcome", "outcome", "outcome", "OUTCOME", "outcome",
                    "OUTCOME",
                ],
            ),
            (
                "VeryTasty",
                [
                    "verytasty",
                    "VERYTASTY",
                    "VeryTasty",
                    "veryTasty",
                    "very_tasty",
                    "VERY_TASTY",
                    "very-tasty",
                    "VERY-TASTY",
                ],
            ),
            (
                "Z42",
                ["z42", "Z42", "Z42", "z42", "z42", "Z42", "z42", "Z42"],
            ),
        ] {
            assert_eq!(cases.map(|case| case.of_variant(original)), expected);
        }
        for (original, expected) in [
            (
                "very_tasty",
                [
                    "very_tasty",
                    "VERY_TASTY",
                    "VeryTasty",
                    "veryTasty",
                    "very_tasty",
                    "VERY_TASTY",
                    "very-tasty",
                    "VERY-TASTY",
                ],
            ),
            ("a", ["a", "A", "A", "a", "a", "A", "a", "A"]),
            ("_x", ["_x", "_X", "X", "x", "_x", "_X", "-x", "-X"]),
        ] {
            assert_eq!(cases.map(|case| case.of_field(original)), expected);
        }
    }

    #[test]
    fn attributes_are_read_past_what_is_not_ours() {
        let attributes = [syn::parse_quote!(
            #[serde(bound(serialize = "T: X"), alias = "old", rename(deserialize = "in", serialize = "out"), default = "f",
                    skip_serializing_if = "Option::is_none", rename_all(serialize = "camelCase"))]
        )];
        let found = SerdeAttrs::of(&attributes);
        assert_eq!(found.rename.as_deref(), Some("out"));
        assert_eq!(found.rename_all, Some(Case::Camel));
        assert!(found.default && !found.skip && !found.names_crate);
    }
}
