//! `#[derive(Message)]`.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Attribute, Data, DeriveInput};

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
    shape: Option<ShapedType>,
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
    let (mut typename, mut format, mut given) = (None, Format::Json, None);
    let mut annotated = false;
    for attribute in input
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("message"))
    {
        annotated = true;
        let Ok(list) = attribute.meta.require_list() else {
            cx.error(attribute, problems::missing_argument(&TYPENAME, OWNER));
            typename = Some(None);
            continue;
        };
        for arg in args::read(cx, list.tokens.clone(), KEYS, OWNER) {
            match arg.key.name {
                "typename" => typename = Some(arg.typename(cx)),
                "format" => {
                    let read = arg.text(cx).and_then(|text| read_format(cx, &text));
                    format = read.unwrap_or(format);
                }
                _ => given = arg.path(cx),
            }
        }
        if typename.is_none() {
            cx.error(
                attribute.path(),
                problems::missing_argument(&TYPENAME, OWNER),
            );
            typename = Some(None);
        }
    }
    if !annotated {
        cx.error(&input.ident, problems::missing_message_attribute());
    }
    for attribute in
        inner_attributes(&input.data).filter(|attribute| attribute.path().is_ident("message"))
    {
        cx.error(attribute, problems::message_attribute_inside());
    }

    let layout = if format == Format::Protobuf {
        Layout::Protobuf
    } else {
        Layout::Serde
    };
    if let (Layout::Protobuf, Data::Enum(data)) = (layout, &input.data) {
        cx.error(data.enum_token, problems::protobuf_enum());
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
    let shape = if matches!((layout, &input.data), (Layout::Protobuf, Data::Enum(_))) {
        None
    } else {
        Some(shape::parse(cx, input, layout, "#[derive(Message)]"))
    };
    if let Some(persisted) = find_attribute(&input.attrs, "persisted") {
        cx.error(persisted, problems::persisted_below_derive());
    }
    Some(MessageType {
        ident: input.ident.clone(),
        krate: krate::path(cx, given),
        typename: typename
            .flatten()
            .unwrap_or_else(|| "unknown/unknown".to_owned()),
        format,
        shape,
    })
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
        shape,
    } = model;
    let private = quote!(#krate::__private);
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
    let span = ident.span();
    // Pointing at the type, where it lacks what its format needs.
    let encode = quote_spanned!(span=> #private::serde_codec::#encode::<Self>);
    let decode = quote_spanned!(span=> #private::serde_codec::#decode::<Self>);
    let shaped = shape.as_ref().map(|shape| shape::expand(shape, krate));
    let shape = if shape.is_some() {
        quote!(<Self as #private::Shaped>::shape())
    } else {
        quote!(#private::Shape::Unit)
    };
    quote! {
        #[doc(hidden)]
        #[allow(deprecated, unused_qualifications, clippy::all, clippy::pedantic)]
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
                    out: &mut ::std::vec::Vec<u8>,
                ) -> ::core::result::Result<(), #private::CodecError> {
                    #encode(#typename, self, out)
                }

                fn decode(bytes: &[u8]) -> ::core::result::Result<Self, #private::CodecError> {
                    #decode(#typename, bytes)
                }

                fn shape() -> #private::Shape {
                    #shape
                }
            }
        };
        #shaped
    }
}
