//! `#[stateful_function]`: the code it becomes. Nothing can go wrong here.
//!
//! Generated names begin with `__`, since the author's types and constants are named among them. What the compiler has
//! to check of the author's types is written with their spans, so that it points at them.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Type, Visibility};

use crate::function::{Function, FunctionArgs, Limits, Retry};
use crate::function_fields::{Expiration, FunctionField, State};
use crate::tokens::respanned;

/// The implementations and the registration.
pub(crate) fn expand(model: &Function) -> TokenStream {
    let Function {
        ident,
        vis,
        krate,
        args,
        fields,
    } = model;
    let private = &quote!(#krate::__private);
    let function = function_impl(ident, args, fields.as_deref(), private);
    let constructor = with_fields(ident, vis, fields.as_deref().unwrap_or_default(), private);
    let accepts = args
        .accepts
        .iter()
        .map(|message| marker("Accepts", message, ident, private));
    let sends = args
        .sends
        .iter()
        .map(|target| marker("SendsTo", target, ident, private));
    let dynamic = args
        .dynamic_sends
        .then(|| quote!(impl #private::SendsDynamically for #ident {}));
    quote! {
        #[doc(hidden)]
        #[allow(deprecated, unused_qualifications, clippy::absolute_paths)]
        const _: () = {
            #[automatically_derived]
            #function
            #constructor
            #(#[automatically_derived] #accepts)*
            #[automatically_derived]
            impl #private::SendsTo<#ident> for #ident {}
            #(#[automatically_derived] #sends)*
            #dynamic
            #private::inventory::submit! {
                #private::Registration::Function(<#ident as #private::StatefulFunction>::definition)
            }
        };
    }
}

fn function_impl(
    ident: &Ident,
    args: &FunctionArgs,
    fields: Option<&[FunctionField]>,
    private: &TokenStream,
) -> TokenStream {
    let typename = &args.typename;
    let known = fields.unwrap_or_default();
    let definition = definition(args, known, private);
    let handlers = args
        .accepts
        .iter()
        .map(|message| quote!(#private::Handler::<Self>::of::<#message>()));
    let (states, plain): (Vec<_>, Vec<_>) = known.iter().partition(|field| field.state.is_some());
    let visits = states.iter().enumerate().map(
        |(
            position,
            FunctionField {
                ident, ty, cfgs, ..
            },
        )| {
            let show = state_item(ty, "show", private);
            let index = index_of(&states[..position]);
            quote!(#(#cfgs)* #show(&mut self.#ident, __visitor, #index);)
        },
    );
    let swaps = states.iter().map(|FunctionField { ident, cfgs, .. }| {
        quote!(#(#cfgs)* ::core::mem::swap(&mut self.#ident, &mut __other.#ident);)
    });
    let create = create(fields, private);
    let missing = plain.iter().map(
        |FunctionField {
             ident, ty, cfgs, ..
         }| {
            let name = ident.unraw().to_string();
            quote! {
                #(#cfgs)*
                if #private::DefaultProbe::<#ty>::new().default_value().is_none() {
                    return ::core::option::Option::Some(#name);
                }
            }
        },
    );
    quote! {
        impl #private::StatefulFunction for #ident {
            const TYPENAME: &'static str = #typename;

            fn type_name() -> #private::TypeName {
                static NAME: #private::LazyTypeName = #private::LazyTypeName::new(#typename);
                NAME.get()
            }

            fn definition() -> #private::FunctionDefinition {
                #definition
            }

            fn handlers() -> ::std::vec::Vec<#private::Handler<Self>> {
                ::std::vec![#(#handlers),*]
            }

            fn visit_states<__V: #private::StateVisitor>(&mut self, __visitor: &mut __V) {
                #(#visits)*
            }

            fn swap_states(&mut self, __other: &mut Self) {
                #(#swaps)*
            }

            fn create() -> ::core::option::Option<Self> {
                #[allow(unused_imports)]
                use #private::NoDefault as _;
                #create
            }

            fn field_without_default() -> ::core::option::Option<&'static str> {
                #[allow(unused_imports)]
                use #private::NoDefault as _;
                #(#missing)*
                ::core::option::Option::None
            }
        }
    }
}

/// The index of the state that these precede: those that a `#[cfg]` leaves out do not count.
fn index_of(preceding: &[&FunctionField]) -> TokenStream {
    let (always, sometimes): (Vec<_>, Vec<_>) = preceding
        .iter()
        .copied()
        .partition(|field| field.cfgs.is_empty());
    let always = always.len();
    let sometimes = sometimes.into_iter().map(|FunctionField { cfgs, .. }| {
        let conditions = cfgs
            .iter()
            .filter_map(|cfg| Some(&cfg.meta.require_list().ok()?.tokens));
        quote!(+ ::core::primitive::usize::from(::core::cfg!(all(#(#conditions),*))))
    });
    quote!(#always #(#sometimes)*)
}

fn definition(args: &FunctionArgs, fields: &[FunctionField], private: &TokenStream) -> TokenStream {
    let FunctionArgs {
        sends,
        says_itself,
        egress,
        dynamic_sends,
        retry,
        limits,
        ..
    } = args;
    let Retry {
        max_attempts,
        initial_delay_ms,
        max_delay_ms,
    } = retry;
    let Limits {
        queue_len,
        fan_out,
        message_bytes,
        state_bytes,
    } = limits;
    let itself = says_itself.then(|| quote!(__definition.sends.push(__definition.typename);));
    let targets = sends.iter().map(|target| {
        let function = respanned(target.span(), &quote!(#private::StatefulFunction));
        let name = quote_spanned!(target.span()=> <#target as #function>::type_name());
        quote!(__definition.sends.push(#name);)
    });
    let uses = egress.iter().map(|constant| {
        let constant = quote_spanned!(constant.span()=> &#constant);
        quote!(__definition.egress.push(#private::EgressId::used(#constant));)
    });
    let states = fields
        .iter()
        .filter_map(|field| Some((field, field.state.as_ref()?)))
        .map(|(field, state)| {
            let (cfgs, description) = (&field.cfgs, state_description(field, state, private));
            quote!(#(#cfgs)* __definition.states.push(#description);)
        });
    let set = |place: TokenStream, value: Option<TokenStream>| {
        value.map(|value| quote!(__definition.#place = #value;))
    };
    let settings = [
        set(
            quote!(retry.max_attempts),
            max_attempts.map(|it| quote!(#it)),
        ),
        set(
            quote!(retry.initial_delay_ms),
            initial_delay_ms.map(|it| quote!(#it)),
        ),
        set(
            quote!(retry.max_delay_ms),
            max_delay_ms.map(|it| quote!(#it)),
        ),
        set(quote!(limits.queue_len), queue_len.map(|it| quote!(#it))),
        set(quote!(limits.fan_out), fan_out.map(|it| quote!(#it))),
        set(
            quote!(limits.message_bytes),
            message_bytes.map(|it| quote!(#it)),
        ),
        set(
            quote!(limits.state_bytes),
            state_bytes.map(|it| quote!(#it)),
        ),
    ];
    // A long first pause alone must not be cut short by the default of the longest, nor the other way round.
    let delays = match (initial_delay_ms, max_delay_ms) {
        (Some(_), None) => Some(quote! {
            __definition.retry.max_delay_ms = __definition.retry.max_delay_ms.max(__definition.retry.initial_delay_ms);
        }),
        (None, Some(_)) => Some(quote! {
            __definition.retry.initial_delay_ms = __definition.retry.initial_delay_ms.min(__definition.retry.max_delay_ms);
        }),
        _ => None,
    };
    quote! {
        #[allow(unused_imports)]
        use #private::{OpaqueShape as _, Unversioned as _};
        let mut __definition = #private::FunctionDefinition::of::<Self>();
        __definition.dynamic_sends = #dynamic_sends;
        #itself
        #(#targets)*
        #(#uses)*
        #(#states)*
        #(#settings)*
        #delays
        __definition
    }
}

fn state_description(field: &FunctionField, state: &State, private: &TokenStream) -> TokenStream {
    let ty = &field.ty;
    let State { name, expiration } = state;
    let expiration = match expiration {
        Expiration::None => quote!(None),
        Expiration::AfterWrite(after_ms) => quote!(AfterWrite { after_ms: #after_ms }),
        Expiration::AfterAccess(after_ms) => quote!(AfterAccess { after_ms: #after_ms }),
    };
    let probe = |part: &str, what: TokenStream| {
        let part = state_item(ty, part, private);
        let probe = respanned(ty.span(), &quote!(#private::ShapeProbe));
        quote_spanned!(ty.span()=> #probe::<#part>::new().#what)
    };
    let shape = quote!(shape_in(&mut #private::ShapeScope::default()));
    let (value, key) = (probe("Value", shape.clone()), probe("Key", shape));
    let versions = probe("Value", quote!(versions()));
    let (kind, check) = (
        state_item(ty, "KIND", private),
        state_item(ty, "check_row", private),
    );
    quote! {
        #private::StateDefinition::of(
            #name, #kind, #value, #key, #private::Expiration::#expiration, #versions, #check,
        )
    }
}

fn create(fields: Option<&[FunctionField]>, private: &TokenStream) -> TokenStream {
    let Some(fields) = fields else {
        return quote!(::core::option::Option::None);
    };
    let fields = fields.iter().map(
        |FunctionField {
             ident,
             ty,
             cfgs,
             state,
         }| {
            let value = if state.is_some() {
                let absent = state_item(ty, "absent", private);
                quote!(#absent())
            } else {
                quote!(#private::DefaultProbe::<#ty>::new().default_value()?)
            };
            quote!(#(#cfgs)* #ident: #value)
        },
    );
    quote!(::core::option::Option::Some(Self { #(#fields),* }))
}

/// `F::with_fields(…)`, for factories: all plain fields in their order. Without any, nobody needs a factory.
fn with_fields(
    ident: &Ident,
    vis: &Visibility,
    fields: &[FunctionField],
    private: &TokenStream,
) -> Option<TokenStream> {
    let (states, plain): (Vec<_>, Vec<_>) = fields.iter().partition(|field| field.state.is_some());
    if plain.is_empty() {
        return None;
    }
    let parameters = plain.iter().map(
        |FunctionField {
             ident, ty, cfgs, ..
         }| quote!(#(#cfgs)* #ident: #ty),
    );
    let given = plain
        .iter()
        .map(|FunctionField { ident, cfgs, .. }| quote!(#(#cfgs)* #ident));
    let absent = states.iter().map(
        |FunctionField {
             ident, ty, cfgs, ..
         }| {
            let absent = state_item(ty, "absent", private);
            quote!(#(#cfgs)* #ident: #absent())
        },
    );
    Some(quote! {
        impl #ident {
            /// An instance with these plain fields, in the order of their declaration, and no state yet: what a factory makes.
            #[allow(
                dead_code,
                private_interfaces,
                clippy::too_many_arguments,
                clippy::used_underscore_binding
            )]
            #[must_use]
            #vis fn with_fields(#(#parameters),*) -> Self {
                Self { #(#given,)* #(#absent,)* }
            }
        }
    })
}

/// `impl Accepts<M> for F {}`: at `M` in the attribute, should it not hold.
fn marker(name: &str, about: &Type, ident: &Ident, private: &TokenStream) -> TokenStream {
    let span = about.span();
    let name = Ident::new(name, span);
    let path = respanned(span, &quote!(#private::#name));
    let mut ident = ident.clone();
    ident.set_span(span.resolved_at(ident.span()));
    let marker = quote_spanned!(span=> #path<#about>);
    quote!(impl #marker for #ident {})
}

/// `<Type as PersistedState>::item`, at the type.
fn state_item(ty: &Type, item: &str, private: &TokenStream) -> TokenStream {
    let span = ty.span();
    let item = Ident::new(item, span);
    let state = respanned(span, &quote!(#private::PersistedState));
    quote_spanned!(span=> <#ty as #state>::#item)
}
