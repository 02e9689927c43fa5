//! `#[stateful_function]`: what the attribute says.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{ExprPath, Fields, Item, ItemStruct, Type, Visibility};

use crate::args::{self, Arg, Form, Key, key};
use crate::ctxt::Ctxt;
use crate::function_expand::expand;
use crate::function_fields::{FunctionField, take_fields};
use crate::item_kind::{keyword_of, kind_of};
use crate::{krate, problems};

const OWNER: &str = "#[stateful_function]";

const TYPENAME: Key = key("typename", Form::Value, "typename = \"example/greeter\"");
const ACCEPTS: Key = key("accepts", Form::List, "accepts(GreetRequest, Remind)");
const KEYS: &[Key] = &[
    TYPENAME,
    ACCEPTS,
    key("sends", Form::List, "sends(EmailSender)"),
    key("egress", Form::List, "egress(GREETINGS)"),
    key("dynamic_sends", Form::Flag, "dynamic_sends"),
    key(
        "retry",
        Form::List,
        "retry(max_attempts = 5, initial_delay = \"100ms\", max_delay = \"10s\")",
    ),
    key("max_queue", Form::Value, "max_queue = 10000"),
    key("max_fan_out", Form::Value, "max_fan_out = 1000"),
    key(
        "max_message_bytes",
        Form::Value,
        "max_message_bytes = 1048576",
    ),
    key("max_state_bytes", Form::Value, "max_state_bytes = 1048576"),
    key("crate", Form::Value, "crate = path"),
];

const RETRY_KEYS: &[Key] = &[
    key("max_attempts", Form::Value, "max_attempts = 5"),
    key("initial_delay", Form::Value, "initial_delay = \"100ms\""),
    key("max_delay", Form::Value, "max_delay = \"10s\""),
];

/// A stateful function as its author declares it.
pub(crate) struct Function {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    pub(crate) krate: TokenStream,
    pub(crate) args: FunctionArgs,
    /// None when the struct has fields that cannot be named.
    pub(crate) fields: Option<Vec<FunctionField>>,
}

/// What stands between the parentheses of the attribute.
#[derive(Default)]
pub(crate) struct FunctionArgs {
    pub(crate) typename: String,
    pub(crate) accepts: Vec<Type>,
    /// Without itself.
    pub(crate) sends: Vec<Type>,
    /// Whether it lists itself among them.
    pub(crate) says_itself: bool,
    pub(crate) egress: Vec<ExprPath>,
    pub(crate) dynamic_sends: bool,
    pub(crate) retry: Retry,
    pub(crate) limits: Limits,
}

/// What differs from the retry policy's defaults.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    pub(crate) max_attempts: Option<u32>,
    pub(crate) initial_delay_ms: Option<u64>,
    pub(crate) max_delay_ms: Option<u64>,
}

/// What differs from the default limits.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) queue_len: Option<u64>,
    pub(crate) fan_out: Option<u32>,
    pub(crate) message_bytes: Option<u32>,
    pub(crate) state_bytes: Option<u32>,
}

/// `#[stateful_function]`. The struct stays even when something is wrong, so that what uses it adds no errors.
pub(crate) fn attribute(args: TokenStream, mut item: Item) -> TokenStream {
    let cx = Ctxt::new();
    let model = if let Item::Struct(item) = &mut item {
        parse(&cx, args, item)
    } else {
        cx.error(
            keyword_of(&item),
            problems::not_a_struct(OWNER, kind_of(&item)),
        );
        None
    };
    let errors = cx.check();
    let expanded = model.map(|model| expand(&model));
    quote!(#item #expanded #errors)
}

/// Reads the attribute and the struct, and takes `#[persisted]` off its fields.
fn parse(cx: &Ctxt, args: TokenStream, item: &mut ItemStruct) -> Option<Function> {
    let (args, given) = parse_args(cx, args, &item.ident);
    let fields = match &item.fields {
        Fields::Unnamed(fields) => {
            cx.error(fields, problems::unnamed_fields());
            None
        }
        Fields::Named(_) | Fields::Unit => Some(take_fields(cx, &mut item.fields)),
    };
    if !item.generics.params.is_empty() {
        let help = problems::GENERIC_FUNCTION_HELP;
        cx.error(
            &item.generics,
            problems::generic(OWNER, "a stateful function", help),
        );
        return None;
    }
    Some(Function {
        ident: item.ident.clone(),
        vis: item.vis.clone(),
        krate: krate::path(cx, given),
        args,
        fields,
    })
}

fn parse_args(
    cx: &Ctxt,
    tokens: TokenStream,
    ident: &Ident,
) -> (FunctionArgs, Option<TokenStream>) {
    let mut args = FunctionArgs {
        typename: "unknown/unknown".to_owned(),
        ..FunctionArgs::default()
    };
    let mut given = None;
    let read = args::read(cx, tokens, KEYS, OWNER);
    for key in [&TYPENAME, &ACCEPTS] {
        read.require(cx, key, TokenStream::new(), OWNER);
    }
    for arg in read.list {
        match arg.key.name {
            "typename" => args.typename = arg.typename(cx).unwrap_or(args.typename),
            "accepts" => args.accepts = arg.list(cx, "types"),
            "sends" => args.sends = arg.list(cx, "types"),
            "egress" => args.egress = arg.list(cx, "constants"),
            "dynamic_sends" => args.dynamic_sends = true,
            "retry" => args.retry = parse_retry(cx, arg),
            "max_queue" => args.limits.queue_len = arg.positive(cx),
            "max_fan_out" => args.limits.fan_out = arg.positive(cx),
            "max_message_bytes" => args.limits.message_bytes = arg.positive(cx),
            "max_state_bytes" => args.limits.state_bytes = arg.positive(cx),
            _ => given = arg.path(cx),
        }
    }
    // Each function may send to itself; saying so only shows it.
    let listed = args.sends.len();
    args.sends.retain(|target| match target {
        Type::Path(path) => !path.path.is_ident(ident) && !path.path.is_ident("Self"),
        _ => true,
    });
    args.says_itself = args.sends.len() < listed;
    (args, given)
}

fn parse_retry(cx: &Ctxt, arg: Arg) -> Retry {
    let mut retry = Retry::default();
    let mut max_delay = None;
    if arg.tokens.is_empty() {
        cx.error(&arg.whole, problems::empty_list(arg.key));
    }
    for arg in args::read(cx, arg.tokens, RETRY_KEYS, "retry(…)").list {
        match arg.key.name {
            "max_attempts" => retry.max_attempts = arg.positive(cx),
            "initial_delay" => retry.initial_delay_ms = arg.duration_ms(cx),
            _ => {
                retry.max_delay_ms = arg.duration_ms(cx);
                max_delay = Some(arg.tokens);
            }
        }
    }
    if let (Some(initial), Some(max)) = (retry.initial_delay_ms, retry.max_delay_ms)
        && max < initial
    {
        cx.error(max_delay, problems::delays_crossed(max, initial));
    }
    retry
}
