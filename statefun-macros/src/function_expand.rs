//! `#[stateful_function]`: the code it becomes. Nothing can go wrong here.
//!
//! Generated names begin with `__`, since the author's types and constants are named among them.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::spanned::Spanned;

use crate::function::{Function, FunctionArgs, Limits, Retry};
use crate::function_fields::{Expiration, FunctionField, State};

/// The implementations and the registration.
pub(crate) fn expand(model: &Function) -> TokenStream {
    let Function {
        ident,
        krate,
        args,
        fields,
    } = model;
    let private = &quote!(#krate::__private);
    let typename = &args.typename;
    let none = Vec::new();
    let known = fields.as_ref().unwrap_or(&none);
    let definition = definition(args, known, private);
    let handlers = args
        .accepts
        .iter()
        .map(|message| quote!(#private::Handler::<Self>::of::<#message>()));
    let visits = known.iter().filter(|field| field.state.is_some()).map(
        |FunctionField {
             ident, ty, cfgs, ..
         }| {
            quote! {
                #(#cfgs)*
                {
                    #private::StateVisitor::visit::<#ty>(__visitor, __index, &mut self.#ident);
                    __index += 1;
                }
            }
        },
    );
    let swaps = known.iter().filter(|field| field.state.is_some()).map(|FunctionField { ident, cfgs, .. }| {
        quote!(#(#cfgs)* ::core::mem::swap(&mut self.#ident, &mut __other.#ident);)
    });
    let create = create(fields.as_deref(), private);
    let missing = known.iter().filter(|field| field.state.is_none()).map(
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
    let accepts = args.accepts.iter().map(|message| {
        // At the message in the attribute, should the function not handle it.
        let ident = ident_at(ident, message.span());
        quote!(#[automatically_derived] impl #private::Accepts<#message> for #ident {})
    });
    let sends = args.sends.iter().map(|target| {
        let ident = ident_at(ident, target.span());
        quote!(#[automatically_derived] impl #private::SendsTo<#target> for #ident {})
    });
    let dynamic = args
        .dynamic_sends
        .then(|| quote!(#[automatically_derived] impl #private::SendsDynamically for #ident {}));
    quote! {
        #[doc(hidden)]
        #[allow(
            deprecated, unused_assignments, unused_imports, unused_mut, unused_qualifications, unused_variables,
            clippy::all, clippy::pedantic
        )]
        const _: () = {
            #[automatically_derived]
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
                    let mut __index = 0usize;
                    #(#visits)*
                }

                fn swap_states(&mut self, __other: &mut Self) {
                    #(#swaps)*
                }

                fn create() -> ::core::option::Option<Self> {
                    use #private::NoDefault as _;
                    #create
                }

                fn field_without_default() -> ::core::option::Option<&'static str> {
                    use #private::NoDefault as _;
                    #(#missing)*
                    ::core::option::Option::None
                }
            }
            #(#accepts)*
            #[automatically_derived]
            impl #private::SendsTo<#ident> for #ident {}
            #(#sends)*
            #dynamic
            #private::inventory::submit! {
                #private::Registration::Function(<#ident as #private::StatefulFunction>::definition)
            }
        };
    }
}

/// The same name at another place, for errors to point there.
fn ident_at(ident: &syn::Ident, span: Span) -> syn::Ident {
    let mut ident = ident.clone();
    ident.set_span(span.resolved_at(ident.span()));
    ident
}

fn definition(args: &FunctionArgs, fields: &[FunctionField], private: &TokenStream) -> TokenStream {
    let FunctionArgs {
        sends,
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
        set(quote!(dynamic_sends), dynamic_sends.then(|| quote!(true))),
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
    // A long first pause alone must not be cut short by the default of the longest.
    let longest = (initial_delay_ms.is_some() && max_delay_ms.is_none()).then(|| {
        quote! {
            __definition.retry.max_delay_ms = __definition.retry.max_delay_ms.max(__definition.retry.initial_delay_ms);
        }
    });
    quote! {
        use #private::OpaqueShape as _;
        let mut __definition = #private::FunctionDefinition::of::<Self>();
        #(__definition.sends.push(<#sends as #private::StatefulFunction>::type_name());)*
        #(__definition.egress.push(#private::EgressId::used(&#egress));)*
        #(#states)*
        #(#settings)*
        #longest
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
    let probe = |part: TokenStream| {
        quote! {
            #private::ShapeProbe::<<#ty as #private::PersistedState>::#part>::new()
                .shape_in(&mut #private::ShapeScope::default())
        }
    };
    let (value, key) = (probe(quote!(Value)), probe(quote!(Key)));
    quote! {
        #private::StateDescription {
            name: ::std::string::String::from(#name),
            kind: <#ty as #private::PersistedState>::KIND,
            shape: #value,
            key_shape: match <#ty as #private::PersistedState>::KIND {
                #private::StateKind::Table => ::core::option::Option::Some(#key),
                _ => ::core::option::Option::None,
            },
            expiration: #private::Expiration::#expiration,
        }
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
                quote!(<#ty as ::core::default::Default>::default())
            } else {
                quote!(#private::DefaultProbe::<#ty>::new().default_value()?)
            };
            quote!(#(#cfgs)* #ident: #value)
        },
    );
    quote!(::core::option::Option::Some(Self { #(#fields),* }))
}
