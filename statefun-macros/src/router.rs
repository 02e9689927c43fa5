//! `#[router]`.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{FnArg, Item, ItemFn, ReturnType, Signature, Type};

use crate::args::{self, Form, Key, key};
use crate::ctxt::Ctxt;
use crate::item_kind::{keyword_of, kind_of};
use crate::{krate, problems};

const OWNER: &str = "#[router]";

const KEYS: &[Key] = &[
    key("ingress", Form::Value, "ingress = \"example/greets\""),
    key("to", Form::List, "to(Greeter)"),
    key("crate", Form::Value, "crate = path"),
];

/// A router.
struct Router {
    ident: Ident,
    krate: TokenStream,
    ingress: Option<String>,
    to: Vec<Type>,
    message: Type,
}

/// `#[router]`. The function stays even when something is wrong.
pub(crate) fn attribute(args: TokenStream, item: Item) -> TokenStream {
    let cx = Ctxt::new();
    let model = if let Item::Fn(item) = &item {
        parse(&cx, args, item)
    } else {
        cx.error(keyword_of(&item), problems::not_a_function(kind_of(&item)));
        None
    };
    let errors = cx.check();
    let expanded = model.map(|model| expand(&model));
    quote!(#item #expanded #errors)
}

fn parse(cx: &Ctxt, tokens: TokenStream, item: &ItemFn) -> Option<Router> {
    let (mut ingress, mut to, mut given) = (None, Vec::new(), None);
    for arg in args::read(cx, tokens, KEYS, OWNER).list {
        match arg.key.name {
            "ingress" => ingress = arg.typename(cx),
            "to" => to = arg.list(cx, "types"),
            _ => given = arg.path(cx),
        }
    }
    let krate = krate::path(cx, given);
    let message = message_of(cx, &item.sig)?;
    Some(Router {
        ident: item.sig.ident.clone(),
        krate,
        ingress,
        to,
        message,
    })
}

/// The type of the first argument, if the function has the form of a router.
fn message_of(cx: &Ctxt, sig: &Signature) -> Option<Type> {
    let mut fits = true;
    let mut wrong = |tokens: &dyn ToTokens, problem| {
        cx.error(tokens.to_token_stream(), problem);
        fits = false;
    };
    if let Some(token) = &sig.asyncness {
        let help =
            "leave out `async`; a function that waits belongs behind `ctx.spawn` in a handler";
        wrong(token, problems::router_qualifier("async", help));
    }
    if let Some(token) = &sig.unsafety {
        wrong(
            token,
            problems::router_qualifier("unsafe", "leave out `unsafe`"),
        );
    }
    if let Some(abi) = &sig.abi {
        wrong(
            abi,
            problems::router_qualifier("extern", "leave out the calling convention"),
        );
    }
    if !sig.generics.params.is_empty() {
        wrong(
            &sig.generics,
            problems::generic(OWNER, "a router", problems::GENERIC_ROUTER_HELP),
        );
    }
    if matches!(sig.output, ReturnType::Default) {
        wrong(&sig.ident, problems::router_result());
    }
    let mut inputs = sig.inputs.iter();
    if let Some(receiver @ FnArg::Receiver(_)) = inputs.clone().next() {
        wrong(receiver, problems::router_receiver());
        inputs.next();
    }
    let arguments: Vec<&FnArg> = inputs.collect();
    let (message, out) = match arguments[..] {
        [FnArg::Typed(message), FnArg::Typed(out)] => (&*message.ty, &*out.ty),
        [_, _, ref more @ ..] if !more.is_empty() => {
            let more = more.iter().map(ToTokens::to_token_stream);
            wrong(&quote!(#(#more),*), problems::router_arity(arguments.len()));
            return None;
        }
        _ => {
            // An empty list of arguments has no token of its own.
            let place = arguments
                .first()
                .map_or_else(|| sig.ident.to_token_stream(), ToTokens::to_token_stream);
            wrong(&place, problems::router_arity(arguments.len()));
            return None;
        }
    };
    match message {
        Type::Reference(_) => wrong(message, problems::router_by_reference()),
        Type::ImplTrait(_) => wrong(
            message,
            problems::generic(OWNER, "a router", problems::GENERIC_ROUTER_HELP),
        ),
        _ => {}
    }
    if !matches!(out, Type::Reference(reference) if reference.mutability.is_some()) {
        wrong(out, problems::router_out());
    }
    fits.then(|| message.clone())
}

fn expand(model: &Router) -> TokenStream {
    let Router {
        ident,
        krate,
        ingress,
        to,
        message,
    } = model;
    let private = quote!(#krate::__private);
    let name = ident.unraw().to_string();
    let ingress = if let Some(ingress) = ingress {
        quote!(::core::option::Option::Some(#ingress))
    } else {
        quote!(::core::option::Option::None)
    };
    // A closure, not a named function: nothing here must hide the author's own names.
    quote! {
        #[doc(hidden)]
        #[allow(deprecated, unused_qualifications, clippy::absolute_paths)]
        const _: () = {
            #private::inventory::submit! {
                #private::Registration::Router(|| #private::RouterDefinition {
                    name: #name,
                    ingress: #ingress,
                    message: #private::MessageDefinition::of::<#message>(),
                    to: ::std::vec![#(<#to as #private::StatefulFunction>::type_name()),*],
                    route: |__message, __out| #private::route_typed::<#message>(__message, __out, #ident),
                })
            }
        };
    }
}
