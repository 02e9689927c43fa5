//! `#[persisted]` on a struct or enum: a type that state can hold.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Attribute, Item, ItemEnum, ItemStruct, LitInt, Path, Token, Type};

use crate::args::{self, Form, Key, key};
use crate::ctxt::Ctxt;
use crate::item_kind::{keyword_of, kind_of};
use crate::serde_attrs::{SerdeAttrs, has_attribute};
use crate::{krate, problems};

const OWNER: &str = "#[persisted]";

/// The number of a state type's version, and the type of the one before.
const VERSION: Key = key("version", Form::Value, "version = 2");
const MIGRATE_FROM: Key = key("migrate_from", Form::Value, "migrate_from = CartV1");

const KEYS: &[Key] = &[
    key("without", Form::List, "without(Default)"),
    key("crate", Form::Value, "crate = path"),
    VERSION,
    MIGRATE_FROM,
    // Those of a field, for an answer to the point.
    key("name", Form::Value, ""),
    key("expire_after_write", Form::Value, ""),
    key("expire_after_access", Form::Value, ""),
];

/// What a state type implements beside its shape.
const TRAITS: [&str; 4] = ["Serialize", "Deserialize", "Clone", "Default"];

/// A state type.
struct StateType {
    krate: TokenStream,
    /// Those of [`TRAITS`] to be derived.
    derives: Vec<&'static str>,
    /// Whether the shape is for us to tell.
    shaped: bool,
    /// Whether serde's derives are to be told where serde is.
    serde_crate: bool,
    version: Option<Declared>,
}

/// What a type says of its version, in the tokens of its author, for the derive that tells its shape.
struct Declared {
    version: LitInt,
    migrate_from: Option<Type>,
}

impl Declared {
    fn attribute(&self) -> Attribute {
        let version = &self.version;
        let migrate_from = self.migrate_from.iter();
        syn::parse_quote!(#[shaped(version = #version #(, migrate_from = #migrate_from)*)])
    }
}

/// `#[persisted]` as an item's attribute.
pub(crate) fn attribute(args: TokenStream, mut item: Item) -> TokenStream {
    let cx = Ctxt::new();
    let model = parse(&cx, args, &item);
    let errors = cx.check();
    if let Some(declared) = model.as_ref().and_then(|model| model.version.as_ref())
        && let Item::Struct(ItemStruct { attrs, .. }) | Item::Enum(ItemEnum { attrs, .. }) =
            &mut item
    {
        // Below all derives, since it is for whichever of them tells the shape.
        attrs.push(declared.attribute());
    }
    let derives = model.map(|model| expand(&model));
    quote!(#derives #item #errors)
}

fn parse(cx: &Ctxt, args: TokenStream, item: &Item) -> Option<StateType> {
    let (attributes, generics, defaultable) = match item {
        Item::Struct(item) => (&item.attrs, &item.generics, true),
        Item::Enum(item) => (
            &item.attrs,
            &item.generics,
            item.variants
                .iter()
                .any(|variant| has_attribute(&variant.attrs, "default")),
        ),
        other => {
            cx.error(
                keyword_of(other),
                problems::not_a_state_type(kind_of(other)),
            );
            return None;
        }
    };
    let Args {
        without,
        krate: given,
        version,
    } = parse_args(cx, args);
    let is_generic =
        generics.type_params().next().is_some() || generics.const_params().next().is_some();
    let borrowed = generics.lifetimes().next();
    if let Some(lifetime) = borrowed {
        cx.error(lifetime, problems::borrowed(OWNER));
    }
    // Without a derive that tells the shape, there is nobody to tell the version.
    let version = version.filter(|version| {
        let refused = is_generic && version.migrate_from.is_some();
        if refused {
            cx.error(generics, problems::generic_migration());
        }
        !refused && borrowed.is_none()
    });
    let derived = derived(attributes);
    let derives: Vec<&'static str> = TRAITS
        .into_iter()
        .filter(|name| !without.iter().any(|left_out| left_out == name))
        .filter(|name| !derived.iter().any(|there| there == name))
        .filter(|name| *name != "Default" || defaultable)
        .collect();
    let serde_crate = derives
        .iter()
        .any(|name| name.ends_with("serialize") || *name == "Serialize")
        && !SerdeAttrs::of(attributes).names_crate;
    let shaped = borrowed.is_none()
        && !derived
            .iter()
            .any(|name| name == "Message" || name == "Shaped");
    Some(StateType {
        krate: krate::path(cx, given),
        derives,
        shaped,
        serde_crate,
        version,
    })
}

#[derive(Default)]
struct Args {
    without: Vec<String>,
    krate: Option<TokenStream>,
    version: Option<Declared>,
}

fn parse_args(cx: &Ctxt, tokens: TokenStream) -> Args {
    let mut all = Args::default();
    let (mut version, mut migrate_from) = (None, None);
    let read = args::read(cx, tokens, KEYS, OWNER);
    let says_version = read.mentions(&VERSION);
    for arg in read.list {
        match arg.key.name {
            "crate" => all.krate = arg.path(cx),
            "version" => {
                // Read again by the derive, which needs the tokens.
                version = arg
                    .positive::<u32>(cx)
                    .and_then(|number| Some((number, syn::parse2::<LitInt>(arg.tokens).ok()?)));
            }
            "migrate_from" => {
                migrate_from = arg.ty(cx);
                if !says_version {
                    cx.error(&arg.whole, problems::migration_without_version());
                }
            }
            "without" => {
                for path in arg.list::<Path>(cx, "traits") {
                    match TRAITS.into_iter().find(|name| path.is_ident(name)) {
                        Some(name) => all.without.push(name.to_owned()),
                        None => cx.error(&path, problems::cannot_leave_out(&path)),
                    }
                }
            }
            name => cx.error(&arg.ident, problems::field_argument_on_type(name)),
        }
    }
    if let (Some((1, literal)), Some(former)) = (&version, &migrate_from) {
        cx.error(literal, problems::nothing_before_the_first(former));
        version = None;
    }
    all.version = version.map(|(_, version)| Declared {
        version,
        migrate_from,
    });
    all
}

/// The last segments of what `#[derive(…)]` below the attribute names.
fn derived(attributes: &[Attribute]) -> Vec<String> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("derive"))
        .filter_map(|attribute| {
            attribute
                .parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated)
                .ok()
        })
        .flatten()
        .filter_map(|path| {
            path.segments
                .last()
                .map(|segment| segment.ident.to_string())
        })
        .collect()
}

/// The attributes that go above the item.
fn expand(model: &StateType) -> TokenStream {
    let StateType {
        krate,
        derives,
        shaped,
        serde_crate,
        ..
    } = model;
    let derives = derives.iter().map(|name| {
        let ident = Ident::new(name, proc_macro2::Span::call_site());
        match *name {
            "Serialize" | "Deserialize" => quote!(#krate::__private::serde::#ident),
            "Clone" => quote!(::core::clone::Clone),
            _ => quote!(::core::default::Default),
        }
    });
    let shaped_derive = shaped.then(|| quote!(#krate::__private::Shaped));
    let derives = derives.chain(shaped_derive);
    let serde_path = quote!(#krate::__private::serde)
        .to_string()
        .replace(' ', "");
    let serde_attribute = serde_crate.then(|| quote!(#[serde(crate = #serde_path)]));
    let shaped_attribute = shaped.then(|| quote!(#[shaped(crate = #krate)]));
    quote! {
        #[derive(#(#derives),*)]
        #serde_attribute
        #shaped_attribute
    }
}
