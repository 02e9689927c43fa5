//! How a field of a Protobuf message is laid out, by its `#[prost(…)]` attribute: the tag and the wire type, not the names.

use syn::{Attribute, LitInt, LitStr, Token};

/// The layout of a field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProstField {
    /// Its tag; a oneof has several, joined with commas.
    pub(crate) tag: String,
    pub(crate) kind: ProstKind,
    pub(crate) label: Label,
}

/// What a field holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProstKind {
    /// A scalar type of Protobuf: `sint32`, `string`, …
    Scalar(String),
    /// A map between the scalar types of these names; the value may be `message`.
    Map(String, String),
    /// A message, a oneof, or what the type itself says.
    Nested,
}

/// How often it may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    Plain,
    Optional,
    Repeated,
    Required,
}

/// Reads the `#[prost(…)]` attributes of fields in order: prost numbers those without a tag after the last one.
#[derive(Debug)]
pub(crate) struct ProstTags {
    next: u32,
}

impl ProstTags {
    pub(crate) fn new() -> Self {
        Self { next: 1 }
    }

    /// The layout of the next field; none when prost skips it. An error when it has no attribute.
    pub(crate) fn field(&mut self, attributes: &[Attribute]) -> Result<Option<ProstField>, ()> {
        let mut tags: Vec<u32> = Vec::new();
        let (mut kind, mut label, mut skipped, mut found) =
            (ProstKind::Nested, Label::Plain, false, false);
        for attribute in attributes
            .iter()
            .filter(|attribute| attribute.path().is_ident("prost"))
        {
            found = true;
            // Prost's own derive reports what does not parse.
            let _ = attribute.parse_nested_meta(|meta| {
                let Some(key) = meta.path.get_ident().map(ToString::to_string) else {
                    return Ok(());
                };
                let value = if meta.input.peek(Token![=]) {
                    Some(value(&meta)?)
                } else {
                    None
                };
                match (key.as_str(), value) {
                    ("tag" | "tags", Some(value)) => {
                        tags.extend(
                            value
                                .split(',')
                                .filter_map(|tag| tag.trim().parse::<u32>().ok()),
                        );
                    }
                    ("optional", _) => label = Label::Optional,
                    ("repeated", _) => label = Label::Repeated,
                    ("required", _) => label = Label::Required,
                    ("skip", _) => skipped = true,
                    ("map" | "hash_map" | "btree_map", Some(value)) => {
                        let (k, v) = value.split_once(',').unwrap_or((&value, ""));
                        kind = ProstKind::Map(k.trim().to_owned(), v.trim().to_owned());
                    }
                    ("enumeration", _) => kind = ProstKind::Scalar("int32".to_owned()),
                    (scalar, _) if SCALARS.contains(&scalar) => kind = ProstKind::Scalar(key),
                    _ => {}
                }
                Ok(())
            });
        }
        if !found {
            return Err(());
        }
        if skipped {
            return Ok(None);
        }
        if tags.is_empty() {
            tags.push(self.next);
        }
        self.next = tags
            .iter()
            .max()
            .map_or(self.next, |tag| tag.saturating_add(1));
        tags.sort_unstable();
        let tag = tags
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",");
        Ok(Some(ProstField { tag, kind, label }))
    }
}

const SCALARS: [&str; 15] = [
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32",
    "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes",
];

fn value(meta: &syn::meta::ParseNestedMeta<'_>) -> syn::Result<String> {
    let value = meta.value()?;
    if value.peek(LitInt) {
        return Ok(value.parse::<LitInt>()?.base10_digits().to_owned());
    }
    if value.peek(LitStr) {
        return Ok(value.parse::<LitStr>()?.value());
    }
    Ok(quote::ToTokens::to_token_stream(&value.parse::<syn::Expr>()?).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_continue_and_kinds_are_told_apart() {
        let mut tags = ProstTags::new();
        let mut read = |attribute: Attribute| tags.field(&[attribute]);
        let field = |tag: &str, kind, label| {
            Ok(Some(ProstField {
                tag: tag.to_owned(),
                kind,
                label,
            }))
        };
        let scalar = |name: &str| ProstKind::Scalar(name.to_owned());
        assert_eq!(
            read(syn::parse_quote!(#[prost(string)])),
            field("1", scalar("string"), Label::Plain)
        );
        assert_eq!(
            read(syn::parse_quote!(#[prost(sint32, repeated, packed = "false", tag = "4")])),
            field("4", scalar("sint32"), Label::Repeated)
        );
        assert_eq!(
            read(syn::parse_quote!(#[prost(bytes = "vec", optional)])),
            field("5", scalar("bytes"), Label::Optional)
        );
        assert_eq!(
            read(syn::parse_quote!(#[prost(oneof = "a::B", tags = "9, 7")])),
            field("7,9", ProstKind::Nested, Label::Plain)
        );
        assert_eq!(
            read(syn::parse_quote!(#[prost(enumeration = "Kind")])),
            field("10", scalar("int32"), Label::Plain)
        );
        assert_eq!(read(syn::parse_quote!(#[prost(skip)])), Ok(None));
        assert_eq!(
            read(syn::parse_quote!(#[prost(btree_map = "string, message", tag = 2)])),
            field(
                "2",
                ProstKind::Map("string".to_owned(), "message".to_owned()),
                Label::Plain
            )
        );
        assert_eq!(tags.field(&[]), Err(()));
    }
}
