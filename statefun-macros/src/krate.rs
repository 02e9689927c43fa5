//! The path under which the expanded code finds the core crate.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use crate::ctxt::Ctxt;
use crate::problems;

/// The core crate's path: the one that the attribute gives with `crate = path`, else the name under which the
/// application depends on it.
pub(crate) fn path(cx: &Ctxt, given: Option<TokenStream>) -> TokenStream {
    if let Some(given) = given {
        return given;
    }
    match crate_name("statefun-core") {
        // The core crate knows itself by its own name too, so this holds in its tests, examples and doctests as well.
        Ok(FoundCrate::Itself) => quote!(::statefun_core),
        Ok(FoundCrate::Name(name)) => {
            let name = Ident::new(&name, Span::call_site());
            quote!(::#name)
        }
        Err(_) => {
            cx.error(TokenStream::new(), problems::no_core_crate());
            quote!(::statefun_core)
        }
    }
}
