//! Tokens of generated code.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::ToTokens;

/// The same tokens at another place.
pub(crate) fn respanned(span: Span, tokens: &TokenStream) -> TokenStream {
    tokens
        .to_token_stream()
        .into_iter()
        .map(|mut token| {
            if let TokenTree::Group(group) = &token {
                token = TokenTree::Group(Group::new(
                    group.delimiter(),
                    respanned(span, &group.stream()),
                ));
            }
            token.set_span(span);
            token
        })
        .collect()
}
