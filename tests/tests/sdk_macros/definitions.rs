//! `#[stateful_function]` and `#[router]`: what they declare, create and register.

use std::rc::Rc;

use statefun_core::__private::{
    Expiration, MessageFormat, PersistedState, StateKind, StateVisitor,
};
use statefun_core::prelude::*;
use statefun_core::sdk::function::FunctionLimits;
use statefun_core::sdk::router::RouterDefinition;
use statefun_core::shape::{Field, Shape};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "definitions/Greet")]
struct Greet {
    user_id: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "definitions/Remind", format = "msgpack")]
struct Remind {}

/// Egresses are named from wherever they are.
mod egresses {
    use super::{EgressId, Remind};

    pub(crate) const OUT: EgressId<Remind> = EgressId::new("definitions/out");
    pub(crate) static LOG: EgressId<String> = EgressId::new("definitions/log");
}

#[persisted]
#[derive(Debug, PartialEq)]
struct Profile {
    visits: u32,
}

#[stateful_function(
    typename = "definitions/full",
    accepts(Greet, Remind, AsyncResult<String, i64>, TypedValue),
    sends(Bare, full::Nested),
    egress(egresses::OUT, self::egresses::LOG),
    dynamic_sends,
    retry(max_attempts = 7, initial_delay = "1s", max_delay = "2min"),
    max_queue = 10,
    max_fan_out = 20,
    max_message_bytes = 1_000,
    max_state_bytes = 0x1000,
)]
#[derive(Debug)]
struct Full {
    #[persisted(name = "seen-count", expire_after_write = "30d")]
    seen_count: PersistedValue<u32>,
    prefix: String,
    #[persisted(expire_after_access = "10m")]
    profiles: PersistedTable<(String, u64), Profile>,
    #[persisted]
    r#type: PersistedBuffer<Option<String>>,
    #[persisted]
    registry: PersistedRegistry,
}

/// Handlers that do nothing.
macro_rules! handles {
    ($($function:ty: $($message:ty),+;)+) => {
        $($(impl Handle<$message> for $function {
            fn handle(&mut self, _: $message, _: &mut Context<'_, Self>) -> HandlerResult {
                Ok(())
            }
        })+)+
    };
}
handles! {
    Full: Greet, Remind, AsyncResult<String, i64>, TypedValue;
    Bare: Remind;
    Wired: Greet;
    Conditional: Greet;
    Slow: Greet;
    Quick: Greet;
}

#[stateful_function(typename = "definitions/bare", accepts(Remind))]
struct Bare;

mod full {
    use super::{Context, Handle, HandlerResult, Remind, StatefulFunction, stateful_function};

    #[stateful_function(
        typename = "definitions/nested",
        accepts(super::Remind),
        sends(Self, Nested, super::Bare)
    )]
    pub(super) struct Nested {}

    impl Handle<Remind> for Nested {
        fn handle(&mut self, message: Remind, ctx: &mut Context<'_, Self>) -> HandlerResult {
            ctx.send(Self::at(ctx.id()), message.clone());
            ctx.send(super::Bare::at(ctx.id()), message);
            Ok(())
        }
    }
}

/// A function that needs a factory: `Connection` has no `Default`.
#[stateful_function(typename = "definitions/wired", accepts(Greet))]
struct Wired {
    #[persisted]
    count: PersistedValue<u32>,
    name: &'static str,
    connection: Connection,
    _shared: Rc<u8>,
}

struct Connection;

/// Names that the generated code must not take for its own.
#[expect(dead_code, reason = "they are there to be in the way")]
mod odd {
    use std::option::Option as Maybe;
    use std::result::Result as Outcome;

    use super::{
        Context, EgressId, Greet, Handle, HandlerError, PersistedValue, Remind, router,
        stateful_function,
    };
    use statefun_core::sdk::error::RouterError;
    use statefun_core::sdk::router::Downstream;

    type V = Remind;
    type Seen = PersistedValue<u8>;
    #[allow(non_upper_case_globals)]
    const definition: EgressId<std::string::String> = EgressId::new("definitions/definition");
    #[derive(Debug, Default, PartialEq)]
    pub(super) struct Option;
    #[derive(Debug, Default, PartialEq)]
    pub(super) struct String;
    #[derive(Debug, Default, PartialEq)]
    pub(super) struct Vec;
    #[derive(Debug, Default, PartialEq)]
    pub(super) struct Some;
    pub(super) trait Default {}
    pub(super) trait StatefulFunction {}

    #[stateful_function(typename = "definitions/odd", accepts(V, Greet), egress(definition))]
    pub(super) struct Odd {
        pub(super) option: Option,
        pub(super) string: String,
        pub(super) vec: Vec,
        pub(super) some: Some,
        /// A state under an alias.
        #[persisted]
        pub(super) seen: Seen,
        #[persisted]
        pub(super) visitor: PersistedValue<Maybe<u8>>,
    }

    impl Handle<V> for Odd {
        fn handle(&mut self, _: V, _: &mut Context<'_, Self>) -> Outcome<(), HandlerError> {
            Ok(())
        }
    }
    impl Handle<Greet> for Odd {
        fn handle(&mut self, _: Greet, _: &mut Context<'_, Self>) -> Outcome<(), HandlerError> {
            Ok(())
        }
    }

    #[router(to(Odd))]
    fn message(_: V, _: &mut Downstream<'_>) -> Outcome<(), RouterError> {
        Ok(())
    }
}
use odd::Odd;

#[stateful_function(typename = "definitions/conditional", accepts(Greet))]
struct Conditional {
    #[cfg(any())]
    #[persisted]
    gone: PersistedValue<DoesNotExist>,
    #[cfg(any())]
    plain: DoesNotExist,
    #[cfg(not(any()))]
    #[persisted(name = "gone")]
    there: PersistedValue<u16>,
    #[cfg(not(any()))]
    name: &'static str,
    #[persisted]
    last: PersistedTable<u8, u8>,
}

#[stateful_function(
    typename = "definitions/slow",
    accepts(Greet),
    retry(initial_delay = "1h")
)]
struct Slow;

#[stateful_function(
    typename = "definitions/quick",
    accepts(Greet),
    retry(max_delay = "1ms")
)]
struct Quick;

/// What a macro of the author's own writes arrives in groups without delimiters.
macro_rules! declared {
    ($name:ident, $typename:literal, $message:ty, $target:path, $key:ty, $limit:expr, $after:literal) => {
        #[derive(Debug)]
        #[stateful_function(
                                                                    typename = $typename,
                                                                    accepts($message),
                                                                    sends($target),
                                                                    max_queue = $limit,
                                                                    retry(initial_delay = $after)
                                                                )]
        struct $name {
            #[persisted(name = $typename, expire_after_write = $after)]
            table: PersistedTable<$key, $message>,
            other: Option<$key>,
        }
        handles! { $name: $message; }
    };
}
declared!(Declared, "definitions/declared", String, Bare, u64, 3, "2s");

#[test]
fn macros_of_the_author_can_declare_functions() {
    let declared = Declared::definition();
    assert_eq!(declared.describe().sends, ["definitions/bare"]);
    assert_eq!(
        (declared.limits.queue_len, declared.retry.initial_delay_ms),
        (3, 2_000)
    );
    assert_eq!(declared.states[0].name, "definitions/declared");
    assert_eq!(declared.states[0].key_shape, Some(Shape::Uint(64)));
    let mut created = Declared::create().unwrap();
    assert_eq!((visited(&mut created).len(), created.other), (1, None));
}

#[test]
fn everything_that_the_attribute_says_is_in_the_definition() {
    let full = Full::definition();
    let described = full.describe();
    assert_eq!(described.typename, "definitions/full");
    assert_eq!(Full::TYPENAME, described.typename);
    assert_eq!(
        described.accepts,
        [
            "definitions/Greet",
            "definitions/Remind",
            "io.statefun/AsyncResult<io.statefun.types/string,io.statefun.types/long>",
            "io.statefun.types/any",
        ]
    );
    assert_eq!(described.sends, ["definitions/bare", "definitions/nested"]);
    let egress = described
        .egress
        .iter()
        .map(|used| (used.id.as_str(), used.message.as_str(), used.format));
    assert_eq!(
        egress.collect::<Vec<_>>(),
        [
            (
                "definitions/out",
                "definitions/Remind",
                MessageFormat::Msgpack
            ),
            (
                "definitions/log",
                "io.statefun.types/string",
                MessageFormat::Protobuf
            ),
        ]
    );
    assert!(described.dynamic_sends);
    assert_eq!(
        (
            full.retry.max_attempts,
            full.retry.initial_delay_ms,
            full.retry.max_delay_ms
        ),
        (7, 1_000, 120_000)
    );
    let expected = FunctionLimits {
        queue_len: 10,
        fan_out: 20,
        message_bytes: 1_000,
        state_bytes: 4_096,
    };
    assert_eq!(full.limits, expected);
}

#[test]
fn states_are_described_in_the_order_of_their_fields() {
    let states = Full::definition().states;
    let profile = Field {
        name: "visits".to_owned(),
        shape: Shape::Uint(32),
        optional: false,
    };
    let expected = [
        (
            "seen-count",
            StateKind::Value,
            Shape::Uint(32),
            None,
            Expiration::AfterWrite {
                after_ms: 2_592_000_000,
            },
        ),
        (
            "profiles",
            StateKind::Table,
            Shape::Struct {
                name: "Profile".to_owned(),
                fields: vec![profile],
            },
            Some(Shape::Tuple(vec![Shape::String, Shape::Uint(64)])),
            Expiration::AfterAccess { after_ms: 600_000 },
        ),
        (
            "type",
            StateKind::Buffer,
            Shape::Option(Box::new(Shape::String)),
            None,
            Expiration::None,
        ),
        (
            "registry",
            StateKind::Registry,
            Shape::Unit,
            None,
            Expiration::None,
        ),
    ];
    assert_eq!(states.len(), expected.len());
    for (state, (name, kind, shape, key, expiration)) in states.into_iter().zip(expected) {
        assert_eq!(state.name, name);
        assert_eq!(
            (
                state.kind,
                state.shape.clone(),
                state.key_shape.clone(),
                state.expiration
            ),
            (kind, shape, key, expiration),
            "{name}"
        );
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let bare = Bare::definition();
    assert!(bare.describe().sends.is_empty());
    assert!(bare.egress.is_empty() && bare.states.is_empty() && !bare.dynamic_sends);
    assert_eq!((bare.retry, bare.limits), Default::default());
    // A function that names itself is listed once.
    assert_eq!(
        full::Nested::definition().describe().sends,
        ["definitions/nested", "definitions/bare"]
    );
}

#[test]
fn one_delay_alone_is_not_bent_by_the_default_of_the_other() {
    assert_eq!(Slow::definition().retry.initial_delay_ms, 3_600_000);
    assert_eq!(Slow::definition().retry.max_delay_ms, 3_600_000);
    assert_eq!(Quick::definition().retry.initial_delay_ms, 1);
    assert_eq!(Quick::definition().retry.max_delay_ms, 1);
}

#[derive(Default)]
struct Visited(Vec<(usize, StateKind)>);

impl StateVisitor for Visited {
    fn visit<S: PersistedState>(&mut self, index: usize, _: &mut S) {
        self.0.push((index, S::KIND));
    }
}

fn visited<F: StatefulFunction>(function: &mut F) -> Vec<(usize, StateKind)> {
    let mut visitor = Visited::default();
    function.visit_states(&mut visitor);
    visitor.0
}

#[test]
fn states_are_visited_under_the_indices_of_the_definition() {
    fn check<F: StatefulFunction>(function: &mut F) {
        let described = F::definition()
            .states
            .into_iter()
            .map(|state| state.kind)
            .enumerate();
        assert_eq!(
            visited(function),
            described.collect::<Vec<_>>(),
            "{}",
            F::TYPENAME
        );
    }
    check(&mut Full::create().unwrap());
    check(&mut Bare::create().unwrap());
    check(&mut Odd::create().unwrap());
    check(&mut Conditional::create().unwrap());
    assert_eq!(visited(&mut Full::create().unwrap()).len(), 4);
    assert_eq!(
        visited(&mut Conditional::create().unwrap()),
        [(0, StateKind::Value), (1, StateKind::Table)]
    );
}

#[test]
fn swapping_exchanges_the_states_and_nothing_else() {
    let (mut a, mut b) = (Full::create().unwrap(), Full::create().unwrap());
    a.seen_count.set(1);
    a.prefix = "a".to_owned();
    a.swap_states(&mut b);
    assert_eq!((a.seen_count.get(), b.seen_count.get()), (None, Some(&1)));
    assert_eq!((a.prefix.as_str(), b.prefix.as_str()), ("a", ""));
}

#[test]
fn a_field_without_a_default_needs_a_factory() {
    assert!(Full::create().is_some());
    assert_eq!(Full::field_without_default(), None);
    assert!(Wired::create().is_none());
    assert_eq!(Wired::field_without_default(), Some("connection"));
    let mut made = Wired::with_fields("made", Connection, Rc::new(1));
    assert_eq!(visited(&mut made), [(0, StateKind::Value)]);
    let (Connection, name) = (made.connection, made.name);
    assert_eq!((made.count.get(), name), (None, "made"));
}

#[test]
fn what_a_factory_is_given_are_the_plain_fields_that_are_there() {
    let made = Conditional::with_fields("made");
    assert_eq!((made.there.get(), made.name), (None, "made"));
    let odd = Odd::with_fields(odd::Option, odd::String, odd::Vec, odd::Some);
    assert_eq!((odd.option, *odd.seen), (odd::Option, 0));
}

#[test]
fn names_of_the_author_are_not_mistaken() {
    let odd = Odd::create().unwrap();
    assert_eq!(
        (odd.option, odd.string, odd.vec, odd.some),
        (odd::Option, odd::String, odd::Vec, odd::Some)
    );
    let described = Odd::definition().describe();
    assert_eq!(
        described.accepts,
        ["definitions/Remind", "definitions/Greet"]
    );
    assert_eq!(described.egress[0].id, "definitions/definition");
    assert_eq!((*odd.seen, *odd.visitor), (0, None));
}

#[test]
fn targets_have_the_function_and_the_id() {
    let target = Full::at("user/7");
    assert_eq!(
        target.address(),
        &Address::new(TypeName::parse("definitions/full").unwrap(), "user/7")
    );
    assert_eq!(Full::type_name(), Full::type_name());
}

#[router(ingress = "definitions/greets", to(Full, full::Nested))]
fn by_user(message: Greet, out: &mut Downstream<'_>) -> RouterResult {
    out.forward(Full::at(&message.user_id), message);
    Ok(())
}

#[router]
fn r#move(_: AsyncResult<String, i64>, _: &mut Downstream<'_>) -> RouterResult {
    Err(RouterError::new("never"))
}

/// A router whose name is one that generated code could use.
#[router(to(Bare))]
fn route(message: Remind, out: &mut Downstream<'_>) -> Result<(), RouterError> {
    out.forward(Bare::at(out.key().unwrap_or("none")), message);
    Ok(())
}

#[test]
fn functions_and_routers_are_registered_at_link_time_in_order() {
    let binder = Binder::linked();
    let names: Vec<&str> = binder
        .functions()
        .iter()
        .map(|function| function.typename.as_str())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    for name in [
        "definitions/bare",
        "definitions/conditional",
        "definitions/full",
        "definitions/nested",
        "definitions/odd",
        "definitions/quick",
        "definitions/slow",
        "definitions/wired",
    ] {
        assert_eq!(
            names.iter().filter(|known| **known == name).count(),
            1,
            "{name} in {names:?}"
        );
    }

    let routers: Vec<_> = binder
        .routers()
        .iter()
        .map(RouterDefinition::describe)
        .collect();
    assert!(routers.is_sorted_by_key(|router| router.name.clone()));
    let router = |name: &str| routers.iter().find(|router| router.name == name).unwrap();
    assert_eq!(
        router("by_user").ingress.as_deref(),
        Some("definitions/greets")
    );
    assert_eq!(router("by_user").message, "definitions/Greet");
    assert_eq!(
        router("by_user").to,
        ["definitions/full", "definitions/nested"]
    );
    assert_eq!(router("move").ingress, None);
    assert!(router("move").to.is_empty());
    assert_eq!(router("route").to, ["definitions/bare"]);
}

#[test]
fn a_function_that_is_linked_in_is_not_bound_twice() {
    let mut binder = Binder::linked();
    let count = binder.functions().len();
    binder.function(|| Wired::with_fields("", Connection, Rc::new(0)));
    binder.register::<Full>();
    assert_eq!(binder.functions().len(), count);
}
