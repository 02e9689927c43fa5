//! `#[derive(Shaped)]`: the structure of a type as it is serialized. `#[derive(Message)]` and `#[persisted]` use it too.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{
    Data, DeriveInput, Fields, GenericArgument, GenericParam, Generics, PathArguments, Token, Type,
};

use crate::args::{self, Form, Key, key};
use crate::ctxt::Ctxt;
use crate::protobuf::{Label, ProstField, ProstKind, ProstTags};
use crate::serde_attrs::{Case, SerdeAttrs, field_name, is_option, type_text, variant_name};
use crate::version::{Version, expand_version};
use crate::{krate, problems};

const KEYS: &[Key] = &[
    key("format", Form::Value, "format = \"protobuf\""),
    key("crate", Form::Value, "crate = path"),
    // Written by `#[persisted]`.
    key("version", Form::Value, ""),
    key("migrate_from", Form::Value, ""),
];

/// How the bytes of a type are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// By serde.
    Serde,
    /// By prost.
    Protobuf,
}

/// A type whose shape is to be told.
pub(crate) struct ShapedType {
    ident: Ident,
    generics: Generics,
    /// Its name in the shape.
    name: String,
    body: Body,
    version: Option<Version>,
}

/// What `#[shaped(…)]` says.
pub(crate) struct ShapedArgs {
    krate: Option<TokenStream>,
    layout: Layout,
    pub(crate) version: Option<Version>,
}

enum Body {
    /// A struct, or what it is by its fields.
    Struct(Content),
    Enum(Vec<Variant>),
    /// Another type is written in its place.
    As(Box<Type>),
}

struct Variant {
    name: String,
    content: Content,
}

enum Content {
    Unit,
    /// The one field is all that is written.
    Transparent(Box<Entry>),
    Tuple(Vec<Entry>),
    Named {
        name: String,
        entries: Vec<Entry>,
    },
    /// A function of the author's own writes it.
    Opaque(String),
}

/// A field.
struct Entry {
    name: String,
    source: Source,
    presence: Presence,
}

enum Source {
    /// The shape of the type, if it is known.
    Probe(Type),
    /// Written by a function of the author's own.
    With(Type, String),
    /// Its fields stand among those of the enclosing struct.
    Flatten(Type),
    /// By its Protobuf type.
    Prost(ProstField, Type),
    /// Text that serde adds: a tag.
    Tag,
    /// What a variant carries, beside its tag.
    Content(Box<Content>),
}

#[derive(Debug, Clone, Copy)]
enum Presence {
    Required,
    Optional,
    /// Optional if its shape is an option.
    ByShape,
}

/// `#[derive(Shaped)]`.
pub(crate) fn derive(input: DeriveInput) -> TokenStream {
    let cx = Ctxt::new();
    let args = shaped_args(&cx, &input.attrs);
    let krate = krate::path(&cx, args.krate);
    let model = parse(&cx, &input, args.layout, args.version, "#[derive(Shaped)]");
    let errors = cx.check();
    let expanded = model.map(|model| expand(&model, &krate));
    quote!(#expanded #errors)
}

/// Reads `#[shaped(…)]`, which `#[persisted]` writes.
pub(crate) fn shaped_args(cx: &Ctxt, attributes: &[syn::Attribute]) -> ShapedArgs {
    let (mut krate, mut layout) = (None, Layout::Serde);
    let (mut number, mut migrate_from) = (None, None);
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("shaped"))
    {
        let Ok(list) = attribute.meta.require_list() else {
            cx.error(attribute, problems::expected_argument("#[shaped]", KEYS));
            continue;
        };
        for arg in args::read(cx, list.tokens.clone(), KEYS, "#[shaped]").list {
            match arg.key.name {
                "crate" => krate = arg.path(cx),
                "version" => number = syn::parse2(arg.tokens).ok(),
                "migrate_from" => migrate_from = arg.ty(cx),
                _ => match arg.text(cx) {
                    Some(text) if text.value() == "protobuf" => layout = Layout::Protobuf,
                    Some(text) => cx.error(&text, problems::wrong_form(arg.key)),
                    None => {}
                },
            }
        }
    }
    ShapedArgs {
        krate,
        layout,
        version: number.map(|number| Version {
            number,
            migrate_from,
        }),
    }
}

/// Reads how a type is laid out; none when there is no saying.
pub(crate) fn parse(
    cx: &Ctxt,
    input: &DeriveInput,
    layout: Layout,
    version: Option<Version>,
    owner: &str,
) -> Option<ShapedType> {
    if let Some(lifetime) = input.generics.lifetimes().next() {
        cx.error(lifetime, problems::borrowed(owner));
        return None;
    }
    let ident = input.ident.clone();
    let name = ident.unraw().to_string();
    let attributes = match layout {
        Layout::Serde => SerdeAttrs::of(&input.attrs),
        Layout::Protobuf => SerdeAttrs::default(),
    };
    let body = match &input.data {
        _ if attributes.into.is_some() => attributes
            .into
            .clone()
            .map_or(Body::Enum(Vec::new()), |ty| Body::As(Box::new(ty))),
        Data::Struct(data) => Body::Struct(match layout {
            Layout::Serde => serde_content(&name, &data.fields, &attributes, attributes.rename_all),
            Layout::Protobuf => prost_struct(cx, &name, &data.fields),
        }),
        Data::Enum(data) => match layout {
            Layout::Serde => Body::Enum(
                data.variants
                    .iter()
                    .filter_map(|variant| serde_variant(variant, &attributes))
                    .collect(),
            ),
            Layout::Protobuf => Body::Enum(prost_oneof(cx, &data.variants)),
        },
        Data::Union(data) => {
            cx.error(data.union_token, problems::union(owner));
            return None;
        }
    };
    Some(ShapedType {
        ident,
        generics: input.generics.clone(),
        name,
        body,
        version,
    })
}

fn serde_variant(variant: &syn::Variant, container: &SerdeAttrs) -> Option<Variant> {
    let attributes = SerdeAttrs::of(&variant.attrs);
    if attributes.unwritten() {
        return None;
    }
    let name = variant_name(&variant.ident, &attributes, container.rename_all);
    let own_name = variant.ident.unraw().to_string();
    let content = if let Some(path) = &attributes.written_with {
        Content::Opaque(format!("with {path}"))
    } else {
        let case = attributes.rename_all.or(container.rename_all_fields);
        // `transparent`, `tag` and `default` of the enum say nothing of its variants' fields.
        serde_content(&own_name, &variant.fields, &SerdeAttrs::default(), case)
    };
    if container.untagged || attributes.untagged {
        return Some(Variant {
            name: format!("{name} (untagged)"),
            content,
        });
    }
    Some(Variant {
        name,
        content: tagged(own_name, content, container),
    })
}

/// What a variant is together with its tag, where that is not a key around it.
fn tagged(name: String, content: Content, container: &SerdeAttrs) -> Content {
    let Some(tag) = &container.tag else {
        return content;
    };
    let tag = Entry {
        name: tag.clone(),
        source: Source::Tag,
        presence: Presence::Required,
    };
    let beside = match (content, &container.content) {
        (Content::Unit, _) => Vec::new(),
        (content, Some(key)) => {
            vec![Entry {
                name: key.clone(),
                source: Source::Content(Box::new(content)),
                presence: Presence::ByShape,
            }]
        }
        (Content::Named { entries, .. }, None) => entries,
        (Content::Transparent(entry), None) => match *entry {
            Entry {
                source: Source::Probe(ty),
                ..
            } => {
                vec![Entry {
                    name: name.clone(),
                    source: Source::Flatten(ty),
                    presence: Presence::Optional,
                }]
            }
            other => vec![other],
        },
        // Serde refuses tuples here.
        (other @ (Content::Tuple(_) | Content::Opaque(_)), None) => return other,
    };
    Content::Named {
        name,
        entries: [tag].into_iter().chain(beside).collect(),
    }
}

fn serde_content(
    name: &str,
    fields: &Fields,
    container: &SerdeAttrs,
    case: Option<Case>,
) -> Content {
    let entries: Vec<Entry> = fields
        .iter()
        .enumerate()
        .filter_map(|(index, field)| serde_field(index, field, container, case))
        .collect();
    match fields {
        _ if container.transparent && entries.len() == 1 => transparent(entries),
        Fields::Unit => Content::Unit,
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 && entries.len() == 1 => {
            transparent(entries)
        }
        Fields::Unnamed(_) => Content::Tuple(entries),
        Fields::Named(_) => {
            let tag = container.tag.as_ref().map(|tag| Entry {
                name: tag.clone(),
                source: Source::Tag,
                presence: Presence::Optional,
            });
            Content::Named {
                name: name.to_owned(),
                entries: tag.into_iter().chain(entries).collect(),
            }
        }
    }
}

fn transparent(entries: Vec<Entry>) -> Content {
    entries
        .into_iter()
        .next()
        .map_or(Content::Unit, |entry| Content::Transparent(Box::new(entry)))
}

fn serde_field(
    index: usize,
    field: &syn::Field,
    container: &SerdeAttrs,
    case: Option<Case>,
) -> Option<Entry> {
    let attributes = SerdeAttrs::of(&field.attrs);
    // Without a name in the bytes, a field of `PhantomData` takes its place all the same.
    if attributes.unwritten() {
        return None;
    }
    let name = match &field.ident {
        Some(ident) => field_name(ident, &attributes, case),
        None => index.to_string(),
    };
    let ty = field.ty.clone();
    let presence = if container.default || attributes.default || attributes.skip_deserializing {
        Presence::Optional
    } else if attributes.read_with {
        Presence::Required
    } else if is_option(&ty) {
        Presence::Optional
    } else {
        Presence::ByShape
    };
    let source = match attributes.written_with {
        Some(path) => Source::With(ty, path),
        None if attributes.flatten => Source::Flatten(ty),
        None => Source::Probe(ty),
    };
    Some(Entry {
        name,
        source,
        presence,
    })
}

fn prost_struct(cx: &Ctxt, name: &str, fields: &Fields) -> Content {
    let mut tags = ProstTags::new();
    let entries = fields.iter().enumerate().filter_map(|(index, field)| {
        let label = field
            .ident
            .as_ref()
            .map_or_else(|| index.to_string(), ToString::to_string);
        prost_entry(cx, &mut tags, &field.attrs, &label, field, &field.ty)
    });
    Content::Named {
        name: name.to_owned(),
        entries: entries.collect(),
    }
}

fn prost_oneof(cx: &Ctxt, variants: &Punctuated<syn::Variant, Token![,]>) -> Vec<Variant> {
    let mut tags = ProstTags::new();
    variants
        .iter()
        .filter_map(|variant| {
            let unit = Type::Verbatim(quote!(()));
            let ty = variant
                .fields
                .iter()
                .next()
                .map_or(&unit, |field| &field.ty);
            let label = variant.ident.to_string();
            let entry = prost_entry(cx, &mut tags, &variant.attrs, &label, &variant.ident, ty)?;
            Some(Variant {
                name: entry.name.clone(),
                content: Content::Transparent(Box::new(entry)),
            })
        })
        .collect()
}

fn prost_entry(
    cx: &Ctxt,
    tags: &mut ProstTags,
    attributes: &[syn::Attribute],
    label: &str,
    place: &impl quote::ToTokens,
    ty: &Type,
) -> Option<Entry> {
    let Ok(found) = tags.field(attributes) else {
        cx.error(place, problems::protobuf_without_prost(label));
        return None;
    };
    let field = found?;
    let presence = if field.label == Label::Required {
        Presence::Required
    } else {
        Presence::Optional
    };
    Some(Entry {
        name: field.tag.clone(),
        source: Source::Prost(field, ty.clone()),
        presence,
    })
}

/// The implementation of `Shaped`.
pub(crate) fn expand(model: &ShapedType, krate: &TokenStream) -> TokenStream {
    let ShapedType {
        ident,
        generics,
        name,
        body,
        version,
    } = model;
    let private = quote!(#krate::__private);
    let mut bounded = generics.clone();
    for param in &mut bounded.params {
        if let GenericParam::Type(param) = param {
            param.bounds.push(syn::parse_quote!(#private::Shaped));
        }
    }
    let (impl_generics, _, where_clause) = bounded.split_for_impl();
    let (_, type_generics, _) = generics.split_for_impl();
    let shape = match body {
        Body::Struct(content) => content_shape(content, &private),
        Body::Enum(variants) => {
            let variants = variants.iter().map(|Variant { name, content }| {
                let shape = content_shape(content, &private);
                quote!(#private::Variant { name: ::std::string::String::from(#name), shape: #shape })
            });
            quote!(#private::Shape::Enum {
                name: ::std::string::String::from(#name),
                variants: ::std::vec![#(#variants),*],
            })
        }
        Body::As(ty) => probe(ty, &private),
    };
    let (items, check) = version
        .as_ref()
        .map(|version| expand_version(version, &private))
        .unzip();
    quote! {
        #[doc(hidden)]
        #[allow(deprecated, unused_qualifications, clippy::absolute_paths)]
        const _: () = {
            #check
            #[automatically_derived]
            impl #impl_generics #private::Shaped for #ident #type_generics #where_clause {
                fn shape_in(__scope: &mut #private::ShapeScope) -> #private::Shape {
                    #[allow(unused_imports)]
                    use #private::OpaqueShape as _;
                    #private::ShapeScope::named::<Self>(__scope, #name, |__scope| #shape)
                }
                #items
            }
        };
    }
}

/// The shape of a type that may or may not be `Shaped`. Its expansion needs `OpaqueShape` and `__scope`.
pub(crate) fn probe(ty: &Type, private: &TokenStream) -> TokenStream {
    quote!(#private::ShapeProbe::<#ty>::new().shape_in(__scope))
}

fn content_shape(content: &Content, private: &TokenStream) -> TokenStream {
    match content {
        Content::Unit => quote!(#private::Shape::Unit),
        Content::Transparent(entry) => entry_shape(&entry.source, private),
        Content::Tuple(entries) => {
            let shapes = entries
                .iter()
                .map(|entry| entry_shape(&entry.source, private));
            quote!(#private::Shape::Tuple(::std::vec![#(#shapes),*]))
        }
        Content::Named { name, entries } => {
            let entries = entries.iter().map(|entry| {
                let Entry {
                    name,
                    source,
                    presence,
                } = entry;
                let shape = entry_shape(source, private);
                let method = match (source, presence) {
                    (Source::Flatten(_), _) => format_ident!("flattened"),
                    (_, Presence::Required) => format_ident!("required"),
                    (_, Presence::Optional) => format_ident!("optional"),
                    (_, Presence::ByShape) => format_ident!("by_shape"),
                };
                quote!(.#method(#name, #shape))
            });
            quote!(#private::ShapeFields::default() #(#entries)* .into_struct(#name))
        }
        Content::Opaque(name) => {
            quote!(#private::Shape::Opaque(::std::string::String::from(#name)))
        }
    }
}

fn entry_shape(source: &Source, private: &TokenStream) -> TokenStream {
    match source {
        Source::Probe(ty) | Source::Flatten(ty) => probe(ty, private),
        Source::With(ty, path) => {
            let name = format!("{} with {path}", type_text(ty));
            quote!(#private::Shape::Opaque(::std::string::String::from(#name)))
        }
        Source::Tag => quote!(#private::Shape::String),
        Source::Content(content) => content_shape(content, private),
        Source::Prost(field, ty) => prost_shape(field, ty, private),
    }
}

fn prost_shape(field: &ProstField, ty: &Type, private: &TokenStream) -> TokenStream {
    let shape = match &field.kind {
        // Its type carries the `Option` or `Vec` of its label.
        ProstKind::Nested => return probe(ty, private),
        ProstKind::Scalar(scalar) => prost_scalar(scalar, private),
        ProstKind::Map(key, value) => {
            let key = prost_scalar(key, private);
            let value = match last_argument(ty) {
                Some(ty) if value == "message" => probe(ty, private),
                _ => prost_scalar(value, private),
            };
            return quote!(#private::Shape::Map(::std::boxed::Box::new(#key), ::std::boxed::Box::new(#value)));
        }
    };
    match field.label {
        Label::Plain | Label::Required => shape,
        Label::Optional => quote!(#private::Shape::Option(::std::boxed::Box::new(#shape))),
        Label::Repeated => quote!(#private::Shape::Seq(::std::boxed::Box::new(#shape))),
    }
}

/// The last type argument, `V` in `HashMap<K, V>`.
fn last_argument(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else {
        return None;
    };
    arguments
        .args
        .iter()
        .rev()
        .find_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
}

/// A scalar type of Protobuf. Those that share a Rust type but not their bytes are opaque under their own names.
fn prost_scalar(scalar: &str, private: &TokenStream) -> TokenStream {
    let shape = match scalar {
        "double" => quote!(Float(64)),
        "float" => quote!(Float(32)),
        "int32" => quote!(Int(32)),
        "int64" => quote!(Int(64)),
        "uint32" => quote!(Uint(32)),
        "uint64" => quote!(Uint(64)),
        "bool" => quote!(Bool),
        "string" => quote!(String),
        "bytes" => quote!(Bytes),
        _ if scalar.starts_with("enumeration") => quote!(Int(32)),
        other => quote!(Opaque(::std::string::String::from(#other))),
    };
    quote!(#private::Shape::#shape)
}
