//! The version of a state type, as part of what is told of its shape.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{LitInt, Type};

use crate::problems;
use crate::tokens::respanned;

/// Its version as a state type, which `#[persisted]` has checked.
pub(crate) struct Version {
    pub(crate) number: LitInt,
    pub(crate) migrate_from: Option<Type>,
}

/// The items of the implementation that tell the version, and what is to hold at compile time.
pub(crate) fn expand_version(
    version: &Version,
    private: &TokenStream,
) -> (TokenStream, TokenStream) {
    let Version {
        number,
        migrate_from,
    } = version;
    let number_item = quote! {
        const VERSION: ::core::primitive::u32 = #number;
    };
    let Some(former) = migrate_from else {
        return (number_item, TokenStream::new());
    };
    let message = problems::version_not_above(former);
    // At the type, should it be none that can be migrated from.
    let before = respanned(former.span(), &quote!(#private::FormerVersion));
    let before = quote_spanned!(former.span()=> <#former as #before>::NUMBER);
    let assertion = quote_spanned! {number.span()=>
        ::core::assert!(#number > #before, #message);
    };
    let versions = respanned(
        former.span(),
        &quote!(#private::Versions::<Self>::declared(#number).migrate_from),
    );
    let versions = quote_spanned!(former.span()=> #versions::<#former>());
    let items = quote! {
        #number_item

        fn versions() -> #private::Versions<Self> {
            #versions
        }
    };
    (items, quote!(const _: () = { #assertion };))
}
