//! Arguments of attributes: `key`, `key = value` and `key(list)`, read one by one, so that a mistake in one of them hides
//! none of the others.

use std::fmt::Display;
use std::str::FromStr;

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, Parser};
use syn::punctuated::Punctuated;
use syn::{LitInt, LitStr, Token, Type};

use crate::ctxt::Ctxt;
use crate::literals::{is_typename, parse_duration_ms};
use crate::problems;
use crate::suggest::nearest;

/// How an argument is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `key`
    Flag,
    /// `key = value`
    Value,
    /// `key(…)`
    List,
}

/// An argument that an attribute knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// An example, for help lines.
    pub(crate) sample: &'static str,
}

/// Shorthand for the tables of [`Key`]s.
pub(crate) const fn key(name: &'static str, form: Form, sample: &'static str) -> Key {
    Key { name, form, sample }
}

/// An argument as it was written, in the form that its key asks for.
#[derive(Debug)]
pub(crate) struct Arg {
    pub(crate) key: &'static Key,
    /// The key's token.
    pub(crate) ident: Ident,
    /// What stands behind `=`, or between the parentheses.
    pub(crate) tokens: TokenStream,
    /// All of the argument, to point at.
    pub(crate) whole: TokenStream,
}

/// What an argument turned out to be.
enum Written {
    Flag,
    Value(TokenStream),
    List(Group),
}

/// The arguments of an attribute.
#[derive(Debug, Default)]
pub(crate) struct Args {
    /// Those that are well written.
    pub(crate) list: Vec<Arg>,
    /// Keys that are there in some form, or are likely to be meant by a misspelt one.
    mentioned: Vec<&'static str>,
}

impl Args {
    /// Whether an argument is there in some form.
    pub(crate) fn mentions(&self, key: &Key) -> bool {
        self.mentioned.contains(&key.name)
    }

    /// Reports the lack of an argument, unless something else was already said of it.
    pub(crate) fn require(&self, cx: &Ctxt, key: &Key, place: impl ToTokens, owner: &str) {
        if !self.mentions(key) {
            cx.error(place, problems::missing_argument(key, owner));
        }
    }
}

/// Reads the arguments of an attribute. `owner` is how messages call it: `#[router]`.
pub(crate) fn read(cx: &Ctxt, tokens: TokenStream, keys: &'static [Key], owner: &str) -> Args {
    let mut args = Args::default();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let ident = match token {
            TokenTree::Ident(ident) => ident,
            other => {
                cx.error(other, problems::expected_argument(owner, keys));
                skip_to_comma(&mut rest);
                continue;
            }
        };
        let written = match rest.peek() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
                let group = group.clone();
                rest.next();
                Written::List(group)
            }
            Some(TokenTree::Punct(punct)) if punct.as_char() == '=' => {
                rest.next();
                Written::Value(take_value(&mut rest))
            }
            _ => Written::Flag,
        };
        match rest.peek() {
            Some(TokenTree::Punct(punct)) if punct.as_char() == ',' => {
                rest.next();
            }
            // Another argument, with the comma forgotten.
            Some(next @ TokenTree::Ident(_)) => cx.error(next, problems::expected_comma()),
            Some(next) => {
                cx.error(next, problems::expected_comma());
                skip_to_comma(&mut rest);
            }
            None => {}
        }
        let Some(key) = keys.iter().find(|key| ident == key.name) else {
            let meant = nearest(&ident.to_string(), keys.iter().map(|key| key.name));
            args.mentioned.extend(meant);
            cx.error(
                &ident,
                problems::unknown_argument(&ident, meant, owner, keys),
            );
            continue;
        };
        args.mentioned.push(key.name);
        if args.list.iter().any(|arg| arg.key.name == key.name) {
            cx.error(&ident, problems::duplicate_argument(key.name));
            continue;
        }
        args.list.extend(fit(cx, key, ident, written));
    }
    args
}

/// The argument, if it is written in the form that its key asks for.
fn fit(cx: &Ctxt, key: &'static Key, ident: Ident, written: Written) -> Option<Arg> {
    let mut whole = ident.to_token_stream();
    let (form, tokens) = match written {
        Written::Flag => (Form::Flag, TokenStream::new()),
        Written::Value(tokens) => {
            tokens.to_tokens(&mut whole);
            (Form::Value, tokens)
        }
        Written::List(group) => {
            group.to_tokens(&mut whole);
            (Form::List, group.stream())
        }
    };
    if form != key.form || (form == Form::Value && tokens.is_empty()) {
        cx.error(whole, problems::wrong_form(key));
        return None;
    }
    Some(Arg {
        key,
        ident,
        tokens,
        whole,
    })
}

type Tokens = std::iter::Peekable<proc_macro2::token_stream::IntoIter>;

/// A literal alone, so that a forgotten comma behind it is noticed; else all up to the next comma.
fn take_value(rest: &mut Tokens) -> TokenStream {
    if let Some(TokenTree::Literal(literal)) = rest.peek() {
        let value = literal.to_token_stream();
        rest.next();
        return value;
    }
    let mut value = TokenStream::new();
    while let Some(token) = rest.next_if(|token| !is_comma(token)) {
        value.extend([token]);
    }
    value
}

fn skip_to_comma(rest: &mut Tokens) {
    for token in rest.by_ref() {
        if is_comma(&token) {
            return;
        }
    }
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}

impl Arg {
    fn parse<T: Parse>(&self, cx: &Ctxt) -> Option<T> {
        let parsed = syn::parse2(self.tokens.clone()).ok();
        if parsed.is_none() {
            cx.error(&self.tokens, problems::wrong_form(self.key));
        }
        parsed
    }

    /// Text in quotes.
    pub(crate) fn text(&self, cx: &Ctxt) -> Option<LitStr> {
        self.parse(cx)
    }

    /// A type.
    pub(crate) fn ty(&self, cx: &Ctxt) -> Option<Type> {
        self.parse(cx)
    }

    /// A path, for `crate = path`.
    pub(crate) fn path(&self, cx: &Ctxt) -> Option<TokenStream> {
        let path = syn::Path::parse_mod_style.parse2(self.tokens.clone()).ok();
        if path.is_none() {
            cx.error(&self.tokens, problems::wrong_form(self.key));
        }
        path.map(ToTokens::into_token_stream)
    }

    /// `namespace/name`.
    pub(crate) fn typename(&self, cx: &Ctxt) -> Option<String> {
        let text = self.text(cx)?;
        let name = text.value();
        if is_typename(&name) {
            Some(name)
        } else {
            cx.error(&text, problems::not_a_typename(&name, self.key));
            None
        }
    }

    /// A duration in milliseconds.
    pub(crate) fn duration_ms(&self, cx: &Ctxt) -> Option<u64> {
        let text = self.text(cx)?;
        match parse_duration_ms(&text.value()) {
            Ok(ms) => Some(ms),
            Err(problem) => {
                cx.error(&text, problems::not_a_duration(&text.value(), problem));
                None
            }
        }
    }

    /// A duration in milliseconds that is not zero.
    pub(crate) fn positive_duration_ms(&self, cx: &Ctxt) -> Option<u64> {
        let ms = self.duration_ms(cx)?;
        if ms == 0 {
            cx.error(&self.tokens, problems::zero_duration(self.key));
            return None;
        }
        Some(ms)
    }

    /// A whole number from 1 on.
    pub(crate) fn positive<N>(&self, cx: &Ctxt) -> Option<N>
    where
        N: FromStr + Default + PartialEq,
        N::Err: Display,
    {
        let literal: LitInt = self.parse(cx)?;
        if !literal.suffix().is_empty() {
            cx.error(&literal, problems::wrong_form(self.key));
            return None;
        }
        if literal.base10_digits().starts_with('-') {
            cx.error(&literal, problems::not_positive(self.key));
            return None;
        }
        match literal.base10_parse::<N>() {
            Ok(number) if number == N::default() => {
                cx.error(&literal, problems::not_positive(self.key));
                None
            }
            Ok(number) => Some(number),
            Err(_) => {
                cx.error(&literal, problems::too_large(self.key, size_of::<N>() * 8));
                None
            }
        }
    }

    /// A list of types or paths (`what` is their plural), each once. An empty list is a mistake: it says nothing.
    pub(crate) fn list<T: Parse + ToTokens>(&self, cx: &Ctxt, what: &str) -> Vec<T> {
        let items = match Punctuated::<T, Token![,]>::parse_terminated.parse2(self.tokens.clone()) {
            Ok(items) => items,
            Err(error) => {
                let problem = problems::not_a_list(what, self.key);
                if error.to_string().starts_with("unexpected end") {
                    // There is no token at the end to point at; syn would point at the whole attribute.
                    cx.error(&self.whole, problem);
                } else {
                    cx.error_at(error.span(), problem);
                }
                return Vec::new();
            }
        };
        if items.is_empty() {
            cx.error(&self.whole, problems::empty_list(self.key));
        }
        let mut seen: Vec<String> = Vec::new();
        let mut unique = Vec::new();
        for item in items {
            let text = item.to_token_stream().to_string();
            if seen.contains(&text) {
                cx.error(&item, problems::listed_twice(&item, self.key.name));
            } else {
                seen.push(text);
                unique.push(item);
            }
        }
        unique
    }
}
