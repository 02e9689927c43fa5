//! Gathers the mistakes of one item, so that all of them are reported at once.

use std::cell::RefCell;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

use crate::problems::Problem;

/// The mistakes found so far. To be [`check`](Self::check)ed before it is dropped, or mistakes would get lost.
#[derive(Debug)]
pub(crate) struct Ctxt {
    /// None once they have been checked.
    errors: RefCell<Option<Vec<syn::Error>>>,
}

impl Ctxt {
    pub(crate) fn new() -> Self {
        Self {
            errors: RefCell::new(Some(Vec::new())),
        }
    }

    /// Notes a mistake at the tokens that make it; at the attribute itself when there are none.
    pub(crate) fn error(&self, tokens: impl ToTokens, problem: Problem) {
        let tokens = tokens.into_token_stream();
        if tokens.is_empty() {
            self.error_at(Span::call_site(), problem);
        } else {
            self.push(syn::Error::new_spanned(tokens, problem));
        }
    }

    /// Notes a mistake at a place.
    pub(crate) fn error_at(&self, span: Span, problem: Problem) {
        self.push(syn::Error::new(span, problem));
    }

    /// How many mistakes there are so far.
    pub(crate) fn count(&self) -> usize {
        self.errors.borrow().as_ref().map_or(0, Vec::len)
    }

    fn push(&self, error: syn::Error) {
        if let Some(errors) = self.errors.borrow_mut().as_mut() {
            errors.push(error);
        }
    }

    /// All mistakes, as the tokens that make the compiler report them; none when there are none.
    pub(crate) fn check(self) -> Option<TokenStream> {
        let errors = self.errors.borrow_mut().take().unwrap_or_default();
        let all = errors.into_iter().reduce(|mut all, error| {
            all.combine(error);
            all
        })?;
        Some(all.into_compile_error())
    }
}

impl Drop for Ctxt {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking() || self.errors.borrow().is_none(),
            "the mistakes of an item were gathered, but never reported"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems;

    #[test]
    fn all_mistakes_are_reported_in_order() {
        let cx = Ctxt::new();
        cx.error(quote::quote!(a), problems::duplicate_argument("a"));
        cx.error(TokenStream::new(), problems::duplicate_argument("b"));
        let text = cx.check().unwrap().to_string();
        let (a, b) = (text.find("`a`").unwrap(), text.find("`b`").unwrap());
        assert!(a < b, "{text}");
        assert!(Ctxt::new().check().is_none());
    }

    #[test]
    #[should_panic(expected = "never reported")]
    fn a_forgotten_check_is_noticed() {
        drop(Ctxt::new());
    }
}
