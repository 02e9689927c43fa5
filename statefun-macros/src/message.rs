//! `#[derive(Message)]`.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Attribute, Data, DeriveInput, Member};

use crate::args::{self, Form, Key, key};
use crate::ctxt::Ctxt;
use crate::serde_attrs::find_attribute;
use crate::shape::{self, Layout, ShapedType};
use crate::{krate, problems};

const OWNER: &str = "#[message]";

const TYPENAME: Key = key(
    "typename",
    Form::Value,
    "typename = \"example/GreetRequest\"",
);
const KEYS: &[Key] = &[
    TYPENAME,
    key("format", Form::Value, "format = \"json\""),
    key("crate", Form::Value, "crate = path"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Msgpack,
    Protobuf,
}

struct MessageType {
    ident: Ident,
    krate: TokenStream,
    typename: String,
    format: Format,
    /// The fields of a struct.
    members: Vec<Member>,
    body: Body,
}

/// What becomes of the functions that encode and decode.
enum Body {
    /// They work; the shape, if it is for the derive to tell.
    Sound(Option<Box<ShapedType>>),
    /// The layout has mistakes, which calls would only repeat.
    Broken,
}

/// `#[derive(Message)]`.
pub(crate) fn derive(input: DeriveInput) -> TokenStream {
    let cx = Ctxt::new();
    let model = parse(&cx, &input);
    let errors = cx.check();
    let expanded = model.map(|model| expand(&model));
    quote!(#expanded #errors)
}

fn parse(cx: &Ctxt, input: &DeriveInput) -> Option<MessageType> {
    let (mut typename, mut format, mut given) = ("unknown/unknown".to_owned(), Format::Json, None);
    let annotations: Vec<&Attribute> = input
        .attrs
        .iter()
        .filter(|attribute| is_ours(attribute))
        .collect();
    let tokens = annotations
        .iter()
        .filter_map(|attribute| Some(&attribute.meta.require_list().ok()?.tokens));
    let args = args::read(cx, quote!(#(#tokens),*), KEYS, OWNER);
    match annotations.first() {
        Some(annotation) => args.require(cx, &TYPENAME, annotation, OWNER),
        None => cx.error(&input.ident, problems::missing_message_attribute()),
    }
    for arg in args.list {
        match arg.key.name {
            "typename" => typename = arg.typename(cx).unwrap_or(typename),
            "format" => {
                let read = arg.text(cx).and_then(|text| read_format(cx, &text));
                format = read.unwrap_or(format);
            }
            _ => given = arg.path(cx),
        }
    }
    for attribute in inner_attributes(&input.data).filter(|attribute| is_ours(attribute)) {
        cx.error(attribute, problems::message_attribute_inside());
    }
    if let Some(lifetime) = input.generics.lifetimes().next() {
        cx.error(lifetime, problems::borrowed("#[derive(Message)]"));
        return None;
    }
    if !input.generics.params.is_empty() {
        let help = problems::GENERIC_MESSAGE_HELP;
        cx.error(
            &input.generics,
            problems::generic("#[derive(Message)]", "a message", help),
        );
        // An implementation for one of many types would only add errors.
        return None;
    }
    let layout = if format == Format::Protobuf {
        Layout::Protobuf
    } else {
        Layout::Serde
    };
    let body = match &input.data {
        Data::Enum(data) if layout == Layout::Protobuf => {
            cx.error(data.enum_token, problems::protobuf_enum());
            Body::Broken
        }
        _ => {
            let before = cx.count();
            let version = shape::shaped_args(cx, &input.attrs).version;
            let shape = shape::parse(cx, input, layout, version, "#[derive(Message)]");
            if cx.count() > before {
                Body::Broken
            } else {
                Body::Sound(shape.map(Box::new))
            }
        }
    };
    let members = match &input.data {
        Data::Struct(data) if matches!(body, Body::Sound(_)) => data.fields.members().collect(),
        _ => Vec::new(),
    };
    let body = match find_attribute(&input.attrs, "persisted") {
        Some(persisted) => {
            // It tells the shape, not seeing that this derive would.
            cx.error(persisted, problems::persisted_below_derive());
            Body::Sound(None)
        }
        None => body,
    };
    Some(MessageType {
        ident: input.ident.clone(),
        krate: krate::path(cx, given),
        typename,
        format,
        members,
        body,
    })
}

fn is_ours(attribute: &Attribute) -> bool {
    attribute.path().is_ident("message")
}

fn read_format(cx: &Ctxt, text: &syn::LitStr) -> Option<Format> {
    match text.value().as_str() {
        "json" => Some(Format::Json),
        "msgpack" => Some(Format::Msgpack),
        "protobuf" => Some(Format::Protobuf),
        other => {
            cx.error(text, problems::unknown_format(other));
            None
        }
    }
}

/// The attributes of fields and variants.
fn inner_attributes(data: &Data) -> Box<dyn Iterator<Item = &Attribute> + '_> {
    match data {
        Data::Struct(data) => Box::new(data.fields.iter().flat_map(|field| &field.attrs)),
        Data::Enum(data) => Box::new(data.variants.iter().flat_map(|variant| {
            variant
                .attrs
                .iter()
                .chain(variant.fields.iter().flat_map(|field| &field.attrs))
        })),
        Data::Union(data) => Box::new(data.fields.named.iter().flat_map(|field| &field.attrs)),
    }
}

fn expand(model: &MessageType) -> TokenStream {
    let MessageType {
        ident,
        krate,
        typename,
        format,
        members,
        body,
    } = model;
    let private = quote!(#krate::__private);
    let fetch = (!members.is_empty()).then(|| {
        quote! {
            fn fetch(&self) {
                #[allow(unused_imports)]
                use #private::NoText as _;
                #( #private::TextProbe(&self.#members).fetch(); )*
            }
        }
    });
    let (format, encode, decode) = match format {
        Format::Json => (quote!(Json), quote!(encode_json), quote!(decode_json)),
        Format::Msgpack => (
            quote!(Msgpack),
            quote!(encode_msgpack),
            quote!(decode_msgpack),
        ),
        Format::Protobuf => (
            quote!(Protobuf),
            quote!(encode_protobuf),
            quote!(decode_protobuf),
        ),
    };
    let (encode, decode, shape) = match body {
        // At the type, where it lacks what its format needs.
        Body::Sound(_) => {
            let codec =
                |function| quote_spanned!(ident.span()=> #private::serde_codec::#function::<Self>);
            let (encode, decode) = (codec(encode), codec(decode));
            (
                quote!(#encode(#typename, self, __out)),
                quote!(#decode(#typename, __bytes)),
                quote!(<Self as #private::Shaped>::shape()),
            )
        }
        Body::Broken => {
            let never = quote!(::core::unreachable!("it does not compile"));
            (never.clone(), never.clone(), never)
        }
    };
    let shaped = match body {
        Body::Sound(Some(shape)) => Some(shape::expand(shape, krate)),
        _ => None,
    };
    quote! {
        #[doc(hidden)]
        #[allow(deprecated, unused_qualifications, clippy::absolute_paths)]
        const _: () = {
            #[automatically_derived]
            impl #private::Message for #ident {
                const TYPE_ID: #private::MessageTypeId = #private::MessageTypeId::of(#typename);
                const FORMAT: #private::MessageFormat = #private::MessageFormat::#format;

                fn type_name() -> &'static str {
                    #typename
                }

                fn encode(
                    &self,
                    __out: &mut ::std::vec::Vec<u8>,
                ) -> ::core::result::Result<(), #private::CodecError> {
                    #encode
                }

                fn decode(__bytes: &[u8]) -> ::core::result::Result<Self, #private::CodecError> {
                    #decode
                }

                fn shape() -> #private::Shape {
                    #shape
                }

                #fetch
            }
        };
        #shaped
    }
}
