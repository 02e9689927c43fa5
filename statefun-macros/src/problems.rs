//! Every mistake that the macros report: what is wrong, and a help line that says how to mend it.

use std::fmt::{self, Display};

use crate::args::{Form, Key};
use crate::literals::DurationProblem;
use crate::suggest::nearest;

/// A mistake and the way out of it.
#[derive(Debug)]
pub(crate) struct Problem {
    text: String,
    help: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhelp: {}", self.text, self.help)
    }
}

fn problem(text: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem {
        text: text.into(),
        help: help.into(),
    }
}

fn samples(keys: &[Key]) -> String {
    let shown = keys.iter().filter(|key| !key.sample.is_empty());
    shown
        .map(|key| format!("`{}`", key.sample))
        .collect::<Vec<_>>()
        .join(", ")
}

// Arguments of any attribute.

pub(crate) fn expected_argument(owner: &str, keys: &[Key]) -> Problem {
    problem(
        format!("expected an argument of `{owner}`"),
        format!("it takes {}", samples(keys)),
    )
}

pub(crate) fn expected_comma() -> Problem {
    problem(
        "expected `,` before this",
        "separate the arguments with commas",
    )
}

pub(crate) fn unknown_argument(
    ident: &impl Display,
    meant: Option<&str>,
    owner: &str,
    keys: &[Key],
) -> Problem {
    let help = match meant {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("it takes {}", samples(keys)),
    };
    problem(format!("`{owner}` has no argument `{ident}`"), help)
}

pub(crate) fn duplicate_argument(name: &str) -> Problem {
    problem(format!("`{name}` is given twice"), "give it once")
}

pub(crate) fn wrong_form(key: &Key) -> Problem {
    let form = match key.form {
        Form::Flag => "takes no value",
        Form::Value => "takes a value of another form",
        Form::List => "takes a list in parentheses",
    };
    problem(
        format!("`{}` {form}", key.name),
        format!("write it as `{}`", key.sample),
    )
}

pub(crate) fn missing_argument(key: &Key, owner: &str) -> Problem {
    problem(
        format!("`{owner}` needs `{}`", key.name),
        format!("add `{}`", key.sample),
    )
}

pub(crate) fn empty_list(key: &Key) -> Problem {
    let help = match key.name {
        "accepts" => format!(
            "a function without messages is never invoked: write `{}`",
            key.sample
        ),
        _ => format!("write it as `{}`, or leave it out", key.sample),
    };
    problem(format!("`{}` lists nothing", key.name), help)
}

pub(crate) fn not_a_list(what: &str, key: &Key) -> Problem {
    problem(
        format!("`{}` lists {what}, separated by commas", key.name),
        format!("write it as `{}`", key.sample),
    )
}

pub(crate) fn listed_twice(item: &impl quote::ToTokens, list: &str) -> Problem {
    problem(
        format!("`{}` is listed twice in `{list}`", compact(item)),
        "list it once",
    )
}

pub(crate) fn not_positive(key: &Key) -> Problem {
    problem(
        format!("`{}` must be at least 1", key.name),
        format!("give a greater number, such as `{}`", key.sample),
    )
}

pub(crate) fn zero_duration(key: &Key) -> Problem {
    problem(
        format!("`{}` cannot be 0", key.name),
        format!(
            "give a longer time, such as `{}`, or leave it out",
            key.sample
        ),
    )
}

pub(crate) fn too_large(key: &Key, bits: usize) -> Problem {
    problem(
        format!("this is too large for `{}`", key.name),
        format!("it is a number of {bits} bits"),
    )
}

pub(crate) fn not_a_typename(text: &str, key: &Key) -> Problem {
    let help = if text.contains(char::is_whitespace) {
        "write it without blanks".to_owned()
    } else {
        format!(
            "write a namespace and a name with a slash between: `{}`",
            key.sample
        )
    };
    problem(
        format!("`{text}` is not of the form `namespace/name`"),
        help,
    )
}

pub(crate) fn not_a_duration(text: &str, wrong: DurationProblem) -> Problem {
    let text = format!("`{text}` is not a duration");
    match wrong {
        DurationProblem::Form => problem(
            text,
            "write a whole number and a unit: `100ms`, `30s`, `10m`, `12h`, `7d`",
        ),
        DurationProblem::NoUnit => problem(
            text,
            "add a unit behind the number: `ms`, `s`, `m` or `min`, `h`, `d`",
        ),
        DurationProblem::Unit => problem(
            text,
            "the units are `ms`, `s`, `m` or `min`, `h`, `d`; use one of them",
        ),
        DurationProblem::TooLong => problem(text, "it exceeds 64 bits of milliseconds"),
    }
}

pub(crate) fn no_core_crate() -> Problem {
    problem(
        "this crate does not depend on `statefun-core`, which the expanded code needs",
        "add `statefun = { package = \"statefun-core\", … }` to the dependencies, or name the path of a re-export: `crate = path`",
    )
}

// `#[stateful_function]`

pub(crate) fn not_a_struct(owner: &str, what: &str) -> Problem {
    problem(
        format!("`{owner}` belongs on a struct, not on {what}"),
        "declare a struct with named fields (its state), or without any: `struct Greeter;`",
    )
}

pub(crate) fn unnamed_fields() -> Problem {
    problem(
        "the fields of a stateful function need names",
        "write `struct Greeter { seen_count: PersistedValue<u32> }`",
    )
}

pub(crate) fn generic(owner: &str, thing: &str, help: &str) -> Problem {
    problem(format!("`{owner}`: {thing} cannot be generic"), help)
}

pub(crate) const GENERIC_FUNCTION_HELP: &str = "one type name stands for one function type: write a struct for each, or box what differs (`Arc<dyn Trait>`)";
pub(crate) const GENERIC_MESSAGE_HELP: &str = "one type name stands for one message type: write a struct for each, or make the part that differs an enum";
pub(crate) const GENERIC_ROUTER_HELP: &str =
    "a router reads one message type: write a function for each";

pub(crate) fn delays_crossed(max_ms: u64, initial_ms: u64) -> Problem {
    problem(
        format!("`max_delay` ({max_ms} ms) is shorter than `initial_delay` ({initial_ms} ms)"),
        "make `max_delay` the longest pause between two attempts",
    )
}

// `#[persisted]` on a field

pub(crate) fn unannotated_state(field: &impl Display, kind: &str) -> Problem {
    problem(
        format!("`{field}` is a `{kind}`, but not annotated: its changes would be lost"),
        "write `#[persisted]` above the field",
    )
}

pub(crate) fn state_name_twice(name: &str) -> Problem {
    problem(
        format!("two states of this function are named `{name}`"),
        "state is stored under its name: give one of them another, with `#[persisted(name = \"…\")]`",
    )
}

pub(crate) fn two_expirations() -> Problem {
    problem(
        "a state expires after the last write or after the last access, not both",
        "keep one of `expire_after_write` and `expire_after_access`",
    )
}

pub(crate) fn registry_expiration() -> Problem {
    problem(
        "a `PersistedRegistry` does not expire itself",
        "give the expiration where a state is registered: `registry.state::<…>(\"name\", Expiration::AfterWrite { … })`",
    )
}

pub(crate) fn empty_state_name() -> Problem {
    problem(
        "a state's name cannot be empty",
        "leave `name` out to take the field's",
    )
}

pub(crate) fn persisted_twice() -> Problem {
    problem(
        "`#[persisted]` is given twice",
        "put all arguments into one: `#[persisted(name = \"…\", expire_after_write = \"…\")]`",
    )
}

pub(crate) fn not_a_state(ty: &impl quote::ToTokens, instead: &str) -> Problem {
    problem(
        format!("`{}` is not a persisted state", compact(ty)),
        format!("write {instead}"),
    )
}

// `#[persisted]` on a type

pub(crate) fn not_a_state_type(what: &str) -> Problem {
    problem(
        format!("`#[persisted]` makes a state type of a struct or an enum, not of {what}"),
        "put it on a struct, an enum, or a field of a `#[stateful_function]`",
    )
}

pub(crate) fn migration_without_version() -> Problem {
    problem(
        "`migrate_from` needs the number of the new version",
        "add `version = 2`, or the next number above that of the version before",
    )
}

pub(crate) fn nothing_before_the_first(former: &impl quote::ToTokens) -> Problem {
    problem(
        "there is nothing before version 1",
        format!(
            "a type that declares no version is of version 1: write `version = 2, migrate_from = {}`",
            compact(former)
        ),
    )
}

pub(crate) fn generic_migration() -> Problem {
    generic(
        "#[persisted]",
        "a type with `migrate_from`",
        "make it a type for each use, which may hold the generic one in a field",
    )
}

/// What the compiler says of it, since only it knows the version of the other type.
pub(crate) fn version_not_above(former: &impl quote::ToTokens) -> String {
    let former = compact(former);
    problem(
        format!("`version` must be above that of `{former}`, which is the version before this one"),
        format!("raise `version`, or check that `{former}` declares its own: without one it is of version 1"),
    )
    .to_string()
}

pub(crate) fn field_argument_on_type(name: &str) -> Problem {
    problem(
        format!("`{name}` belongs on a field of a `#[stateful_function]`, not on a type"),
        format!("write `#[persisted({name} = …)]` above the field that holds this type"),
    )
}

pub(crate) fn borrowed(owner: &str) -> Problem {
    problem(
        format!("`{owner}`: what is stored or sent owns its data, and cannot have a lifetime"),
        "use owned types, such as `String` or `Vec<u8>`",
    )
}

pub(crate) fn cannot_leave_out(name: &impl quote::ToTokens) -> Problem {
    problem(
        format!("`#[persisted]` does not derive `{}`", compact(name)),
        "`without(…)` takes `Serialize`, `Deserialize`, `Clone` and `Default`",
    )
}

// `#[derive(Message)]` and shapes

pub(crate) fn missing_message_attribute() -> Problem {
    problem(
        "the type name of this message is missing",
        "add `#[message(typename = \"namespace/Name\")]` above the type",
    )
}

pub(crate) fn message_attribute_inside() -> Problem {
    problem(
        "`#[message]` belongs on the type, not inside it",
        "move it above the `struct` or `enum`",
    )
}

pub(crate) fn unknown_format(text: &str) -> Problem {
    let known = ["json", "msgpack", "protobuf"];
    let help = match nearest(&text.to_lowercase(), known) {
        Some(format) => format!("did you mean `\"{format}\"`?"),
        None => "the formats are `\"json\"`, `\"msgpack\"` and `\"protobuf\"`".to_owned(),
    };
    problem(format!("there is no message format `{text}`"), help)
}

pub(crate) fn protobuf_enum() -> Problem {
    problem(
        "a Protobuf message is a struct",
        "wrap the enum into a struct with a field `#[prost(oneof = …)]` or `#[prost(enumeration = …)]`",
    )
}

pub(crate) fn protobuf_without_prost(field: &str) -> Problem {
    problem(
        format!("`{field}` has no `#[prost(…)]` attribute, which `format = \"protobuf\"` needs"),
        "derive `prost::Message` and annotate each field: `#[prost(string, tag = \"1\")]`",
    )
}

pub(crate) fn union(owner: &str) -> Problem {
    problem(
        format!("`{owner}` does not know what is in a union"),
        "use a struct or an enum",
    )
}

pub(crate) fn persisted_below_derive() -> Problem {
    problem(
        "`#[persisted]` stands below `#[derive(…)]`, and so does not see what is derived",
        "move `#[persisted]` above the derive",
    )
}

// `#[router]`

pub(crate) fn not_a_function(what: &str) -> Problem {
    problem(
        format!("`#[router]` belongs on a function, not on {what}"),
        "write `fn name(message: M, out: &mut Downstream<'_>) -> RouterResult { … }`",
    )
}

pub(crate) fn router_qualifier(what: &str, help: &str) -> Problem {
    problem(format!("a router cannot be {what}"), help)
}

pub(crate) fn router_receiver() -> Problem {
    problem(
        "a router is a free function, without `self`",
        "move it out of the `impl`",
    )
}

pub(crate) fn router_arity(count: usize) -> Problem {
    problem(
        format!("a router takes two arguments, not {count}"),
        "write `(message: M, out: &mut Downstream<'_>)`: the record's message, and where to forward it",
    )
}

pub(crate) fn router_by_reference() -> Problem {
    problem("a router takes its message by value", "leave out the `&`")
}

pub(crate) fn router_out() -> Problem {
    problem(
        "the second argument of a router is where it forwards to",
        "write `out: &mut Downstream<'_>`",
    )
}

pub(crate) fn router_result() -> Problem {
    problem(
        "a router returns a `RouterResult`",
        "add `-> RouterResult`, and `Ok(())` at the end",
    )
}

/// Tokens as an author would write them.
pub(crate) fn compact(tokens: &impl quote::ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (spaced, written) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" ;", ";"),
        ("& ", "&"),
        ("( ", "("),
        (" )", ")"),
    ] {
        text = text.replace(spaced, written);
    }
    text
}
