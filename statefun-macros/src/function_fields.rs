//! `#[persisted]` on the fields of a stateful function.

use proc_macro2::{Ident, TokenStream};
use syn::ext::IdentExt;
use syn::{Attribute, Fields, Meta, Type};

use crate::args::{self, Form, Key, key};
use crate::ctxt::Ctxt;
use crate::problems;
use crate::serde_attrs::{is_attribute, last_segment};

const OWNER: &str = "#[persisted]";

const KEYS: &[Key] = &[
    key("name", Form::Value, "name = \"seen-count\""),
    key(
        "expire_after_write",
        Form::Value,
        "expire_after_write = \"30d\"",
    ),
    key(
        "expire_after_access",
        Form::Value,
        "expire_after_access = \"10m\"",
    ),
];

/// The types of the core crate that hold state.
const STATES: [&str; 4] = [
    "PersistedValue",
    "PersistedTable",
    "PersistedBuffer",
    "PersistedRegistry",
];

/// A field of a stateful function.
pub(crate) struct FunctionField {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    /// `#[cfg]`s, which what is generated for the field repeats.
    pub(crate) cfgs: Vec<Attribute>,
    /// None for a plain field.
    pub(crate) state: Option<State>,
}

/// What `#[persisted]` says of a field.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) expiration: Expiration,
}

/// When the state expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiration {
    None,
    AfterWrite(u64),
    AfterAccess(u64),
}

/// Reads the fields and takes `#[persisted]` off them.
pub(crate) fn take_fields(cx: &Ctxt, fields: &mut Fields) -> Vec<FunctionField> {
    let mut names: Vec<String> = Vec::new();
    let mut taken = Vec::new();
    for field in fields {
        let Some(ident) = field.ident.clone() else {
            continue;
        };
        let (persisted, others) = std::mem::take(&mut field.attrs)
            .into_iter()
            .partition::<Vec<_>, _>(|attribute| is_attribute(attribute, "persisted"));
        field.attrs = others;
        let cfgs: Vec<Attribute> = field
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("cfg"))
            .cloned()
            .collect();
        for again in persisted.iter().skip(1) {
            cx.error(again, problems::persisted_twice());
        }
        let kind = last_segment(&field.ty).filter(|name| STATES.contains(&name.as_str()));
        let state = persisted.first().map(|attribute| {
            let (state, place) = parse_state(cx, attribute, &ident, kind.as_deref());
            // Of fields that exclude each other by `#[cfg]`, only one is there.
            if cfgs.is_empty() && names.contains(&state.name) {
                cx.error(place, problems::state_name_twice(&state.name));
            }
            names.push(state.name.clone());
            state
        });
        let state = state.filter(|_| {
            let instead = state_instead(&field.ty);
            if let Some(instead) = &instead {
                cx.error(&field.ty, problems::not_a_state(&field.ty, instead));
            }
            instead.is_none()
        });
        if let (None, Some(kind)) = (&state, kind) {
            cx.error(&field.ty, problems::unannotated_state(&ident, &kind));
        }
        taken.push(FunctionField {
            ident,
            ty: field.ty.clone(),
            cfgs,
            state,
        });
    }
    taken
}

/// What to write instead of a type of the standard library, which holds no state by itself. Of other types the compiler
/// says whether they do.
fn state_instead(ty: &Type) -> Option<String> {
    let text = problems::compact(ty);
    let path = match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last()?,
        Type::Array(_) | Type::Tuple(_) | Type::Reference(_) | Type::Slice(_) => {
            return Some(format!("`PersistedValue<{text}>`"));
        }
        _ => return None,
    };
    let arguments = match &path.arguments {
        syn::PathArguments::AngleBracketed(arguments) => arguments.args.iter().collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let value = format!("`PersistedValue<{text}>`");
    match (path.ident.to_string().as_str(), &arguments[..]) {
        (
            "bool" | "char" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i8" | "i16"
            | "i32" | "i64" | "i128" | "isize" | "f32" | "f64" | "String" | "Duration",
            [],
        )
        | ("Option" | "Box" | "Rc" | "Arc" | "HashSet" | "BTreeSet", [_]) => Some(value),
        ("Vec" | "VecDeque" | "LinkedList", [element]) => Some(format!(
            "`PersistedBuffer<{}>`, or {value} to read and write it whole",
            problems::compact(element)
        )),
        ("HashMap" | "BTreeMap", [key, entry]) => Some(format!(
            "`PersistedTable<{}, {}>`, or {value} to read and write it whole",
            problems::compact(key),
            problems::compact(entry)
        )),
        _ => None,
    }
}

/// The state, and the tokens that name it.
fn parse_state(
    cx: &Ctxt,
    attribute: &Attribute,
    field: &Ident,
    kind: Option<&str>,
) -> (State, TokenStream) {
    let mut name = field.unraw().to_string();
    let mut place = quote::quote!(#field);
    let mut expiration = Expiration::None;
    let tokens = match &attribute.meta {
        Meta::Path(_) => TokenStream::new(),
        Meta::List(list) => list.tokens.clone(),
        Meta::NameValue(_) => {
            cx.error(attribute, problems::expected_argument(OWNER, KEYS));
            TokenStream::new()
        }
    };
    for arg in args::read(cx, tokens, KEYS, OWNER).list {
        match arg.key.name {
            "name" => {
                let Some(text) = arg.text(cx) else { continue };
                if text.value().trim().is_empty() {
                    cx.error(&text, problems::empty_state_name());
                    continue;
                }
                name = text.value();
                place = arg.tokens;
            }
            written => {
                let Some(after_ms) = arg.positive_duration_ms(cx) else {
                    continue;
                };
                if expiration != Expiration::None {
                    cx.error(&arg.ident, problems::two_expirations());
                } else if kind == Some("PersistedRegistry") {
                    cx.error(&arg.whole, problems::registry_expiration());
                } else if written == "expire_after_write" {
                    expiration = Expiration::AfterWrite(after_ms);
                } else {
                    expiration = Expiration::AfterAccess(after_ms);
                }
            }
        }
    }
    (State { name, expiration }, place)
}
