//! `#[derive(Shaped)]`: what it says of a type holds of the JSON that serde makes of its values.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use statefun_core::prelude::*;
use statefun_core::shape::{Field, Shape, Shaped, Variant};

/// Whether a value can have been written in a shape. Opaque shapes fit anything; a struct with a flattened field may have
/// further keys.
fn fits(shape: &Shape, value: &Value) -> Result<(), String> {
    let wrong = || Err(format!("{value} is no {shape}"));
    match (shape, value) {
        (Shape::Opaque(_) | Shape::Recursive(_), _)
        | (Shape::Unit | Shape::Option(_), Value::Null)
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Int(_) | Shape::Uint(_) | Shape::Float(_), Value::Number(_))
        | (Shape::String | Shape::Char, Value::String(_)) => Ok(()),
        (Shape::Option(inner), value) => fits(inner, value),
        (Shape::Seq(element), Value::Array(values)) => {
            values.iter().try_for_each(|value| fits(element, value))
        }
        (Shape::Map(_, inner), Value::Object(entries)) => {
            entries.values().try_for_each(|value| fits(inner, value))
        }
        (Shape::Tuple(shapes), Value::Array(values)) if shapes.len() == values.len() => shapes
            .iter()
            .zip(values)
            .try_for_each(|(shape, value)| fits(shape, value)),
        (Shape::Struct { fields, .. }, Value::Object(entries)) => {
            let open = fields.iter().any(|field| is_flattened(&field.shape));
            for (key, value) in entries {
                match fields.iter().find(|field| field.name == *key) {
                    Some(field) => fits(&field.shape, value)?,
                    None if open => {}
                    None => return Err(format!("the key `{key}` of {value} is not in {shape}")),
                }
            }
            match fields
                .iter()
                .find(|field| !field.optional && !entries.contains_key(&field.name))
            {
                Some(missing) => Err(format!("`{}` is missing in {value}", missing.name)),
                None => Ok(()),
            }
        }
        (Shape::Enum { variants, .. }, value) => {
            // Untagged variants, and those with the tag inside, are known by their content alone.
            let alone = variants
                .iter()
                .filter(|variant| variant.name.ends_with(" (untagged)") || has_tag(variant));
            if alone
                .clone()
                .any(|variant| fits(&variant.shape, value).is_ok())
            {
                return Ok(());
            }
            let (name, content) = match value {
                Value::String(name) => (name, &Value::Null),
                Value::Object(entries) if entries.len() == 1 => match entries.iter().next() {
                    Some(entry) => entry,
                    None => return wrong(),
                },
                _ => return wrong(),
            };
            match variants.iter().find(|variant| variant.name == *name) {
                Some(variant) => fits(&variant.shape, content),
                None => wrong(),
            }
        }
        _ => wrong(),
    }
}

fn has_tag(variant: &Variant) -> bool {
    matches!(&variant.shape, Shape::Struct { fields, .. } if fields.first().is_some_and(|field| field.name == "kind"))
}

fn is_flattened(shape: &Shape) -> bool {
    matches!(shape, Shape::Opaque(name) if name.starts_with("flattened "))
}

/// Checks the shape against what is written, and that whatever the shape calls optional can be left out.
fn check<T: Shaped + Serialize + serde::de::DeserializeOwned>(values: &[T]) {
    let shape = T::shape();
    for value in values {
        let written = serde_json::to_value(value).unwrap();
        fits(&shape, &written).unwrap_or_else(|problem| panic!("{problem}, which wrote {written}"));
        let back: T = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), written);
        let (Shape::Struct { fields, .. }, Value::Object(entries)) = (&shape, &written) else {
            continue;
        };
        for field in fields
            .iter()
            .filter(|field| entries.contains_key(&field.name))
        {
            let mut without = entries.clone();
            without.remove(&field.name);
            let read = serde_json::from_value::<T>(Value::Object(without));
            assert_eq!(read.is_ok(), field.optional, "`{}` of {shape}", field.name);
        }
    }
}

fn text<T: Shaped>() -> String {
    T::shape().to_string()
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, Shaped)]
struct Inner {
    number: u8,
    word: Option<String>,
}

type Maybe<T> = Option<T>;

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "shapes/Fields")]
#[serde(rename_all = "camelCase")]
struct Fields {
    plain_field: i64,
    #[serde(rename = "other-name")]
    renamed: char,
    #[serde(rename(serialize = "out", deserialize = "out"))]
    both_ways: f32,
    #[serde(default)]
    defaulted: u128,
    #[serde(default = "Default::default", skip_serializing_if = "Vec::is_empty")]
    listed: Vec<(u8, [bool; 2])>,
    option: Option<Box<Inner>>,
    alias: Maybe<u8>,
    #[serde(skip)]
    _skipped: u8,
    #[serde(skip_serializing, default)]
    _unwritten: u8,
    #[serde(skip_deserializing)]
    unread: u8,
    r#type: Box<str>,
    map: BTreeMap<String, Inner>,
}

impl Fields {
    fn of(count: usize) -> Self {
        let inner = Inner {
            number: 1,
            word: None,
        };
        Self {
            plain_field: -1,
            renamed: 'x',
            both_ways: 0.5,
            defaulted: 1 << 60,
            listed: vec![(1, [true, false]); count],
            option: (count > 0).then(|| Box::new(inner.clone())),
            alias: None,
            _skipped: 1,
            _unwritten: 1,
            unread: 0,
            r#type: "t".into(),
            map: BTreeMap::from([("k".to_owned(), inner)]),
        }
    }
}

#[test]
fn fields_are_told_as_they_are_written() {
    check(&[Fields::of(0), Fields::of(2)]);
    assert_eq!(
        text::<Fields>(),
        "Fields { plainField: i64, other-name: char, out: f32, defaulted?: u128, listed?: [(u8, (bool, bool))], \
         option?: Option<Inner { number: u8, word?: Option<String> }>, alias?: Option<u8>, unread?: u8, type: String, \
         map: {String: Inner { number: u8, word?: Option<String> }} }"
    );
    assert_eq!(<Fields as Message>::shape(), <Fields as Shaped>::shape());
}

#[derive(Default, Serialize, Deserialize, Shaped)]
#[serde(default, rename_all = "SCREAMING-KEBAB-CASE")]
struct AllDefaulted {
    one_thing: u8,
    other_thing: String,
}

#[derive(Serialize, Deserialize, Shaped)]
#[serde(tag = "kind")]
struct Tagged {
    a: u8,
}

#[derive(Serialize, Deserialize, Shaped)]
#[serde(transparent)]
struct Transparent {
    inner: Inner,
    #[serde(skip)]
    _marker: std::marker::PhantomData<NotShaped>,
}

#[derive(Serialize, Deserialize, Shaped)]
struct Newtype(Vec<u8>);

#[derive(Serialize, Deserialize, Shaped)]
#[expect(dead_code, reason = "a skipped field is never read")]
struct Pair(u8, #[serde(skip)] String, Option<bool>);

#[derive(Serialize, Deserialize, Shaped)]
struct Nothing;

#[derive(Serialize, Deserialize, Shaped)]
struct Empty {}

#[derive(Clone, Serialize, Deserialize, Shaped)]
#[serde(from = "Inner", into = "Inner")]
struct Converted {
    doubled: u16,
}
impl From<Inner> for Converted {
    fn from(inner: Inner) -> Self {
        Self {
            doubled: u16::from(inner.number) * 2,
        }
    }
}
impl From<Converted> for Inner {
    fn from(converted: Converted) -> Self {
        Self {
            number: (converted.doubled / 2) as u8,
            word: None,
        }
    }
}

#[test]
fn every_kind_of_struct_is_told_as_it_is_written() {
    let inner = || Inner {
        number: 3,
        word: Some("w".to_owned()),
    };
    check(&[AllDefaulted {
        one_thing: 1,
        other_thing: String::new(),
    }]);
    check(&[Tagged { a: 1 }]);
    check(&[Transparent {
        inner: inner(),
        _marker: std::marker::PhantomData,
    }]);
    check(&[Newtype(vec![1])]);
    check(&[
        Pair(1, String::new(), None),
        Pair(1, String::new(), Some(true)),
    ]);
    check(&[Nothing]);
    check(&[Empty {}]);
    check(&[Converted { doubled: 4 }]);
    assert_eq!(
        text::<AllDefaulted>(),
        "AllDefaulted { ONE-THING?: u8, OTHER-THING?: String }"
    );
    assert_eq!(text::<Tagged>(), "Tagged { kind?: String, a: u8 }");
    assert_eq!(Transparent::shape(), Inner::shape());
    assert_eq!(text::<Newtype>(), "[u8]");
    assert_eq!(text::<Pair>(), "(u8, Option<bool>)");
    assert_eq!(Nothing::shape(), Shape::Unit);
    assert_eq!(
        Empty::shape(),
        Shape::Struct {
            name: "Empty".to_owned(),
            fields: Vec::new()
        }
    );
    assert_eq!(Converted::shape(), Inner::shape());
}

#[derive(Serialize, Deserialize, Shaped)]
struct Flat {
    own: u8,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Serialize, Deserialize, Shaped)]
struct FlatOption {
    #[serde(flatten)]
    nested: Option<Flat>,
}

#[derive(Serialize, Deserialize, Shaped)]
struct FlatMap {
    own: u8,
    #[serde(flatten)]
    more: HashMap<String, u64>,
}

#[test]
fn flattened_fields_stand_among_the_others() {
    let flat = || Flat {
        own: 1,
        inner: Inner {
            number: 2,
            word: Some(String::new()),
        },
    };
    check(&[flat()]);
    check(&[FlatMap {
        own: 1,
        more: HashMap::from([("x".to_owned(), 1)]),
    }]);
    for nested in [
        FlatOption {
            nested: Some(flat()),
        },
        FlatOption { nested: None },
    ] {
        fits(
            &FlatOption::shape(),
            &serde_json::to_value(&nested).unwrap(),
        )
        .unwrap();
    }
    assert_eq!(
        text::<Flat>(),
        "Flat { own: u8, number: u8, word?: Option<String> }"
    );
    assert_eq!(
        text::<FlatOption>(),
        "FlatOption { own?: u8, number?: u8, word?: Option<String> }"
    );
    assert_eq!(
        text::<FlatMap>(),
        "FlatMap { own: u8, more?: flattened {\"map\":[\"string\",{\"uint\":64}]} }"
    );
}

/// A type of another crate, of which nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct NotShaped {
    secret: u8,
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{number:x}"))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
    pub(super) fn option<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        Option::deserialize(deserializer)
    }
}

#[derive(Serialize, Deserialize, Shaped)]
struct Unknown {
    foreign: NotShaped,
    foreign_list: Vec<NotShaped>,
    foreign_option: Option<NotShaped>,
    #[serde(with = "hex")]
    written_by_hand: u64,
    #[serde(with = "hex", default)]
    by_hand_or_not: u64,
    #[serde(deserialize_with = "hex::option")]
    read_by_hand: Option<u64>,
}

#[test]
fn what_the_derive_cannot_look_into_is_opaque() {
    check(&[Unknown {
        foreign: NotShaped::default(),
        foreign_list: vec![NotShaped::default()],
        foreign_option: Some(NotShaped::default()),
        written_by_hand: 255,
        by_hand_or_not: 1,
        read_by_hand: None,
    }]);
    let Shape::Struct { fields, .. } = Unknown::shape() else {
        panic!("a struct")
    };
    let opaque = |name: &str| {
        let field = fields.iter().find(|field| field.name == name).unwrap();
        match &field.shape {
            Shape::Opaque(of) => (of.clone(), field.optional),
            other => panic!("`{name}` is {other}"),
        }
    };
    assert!(opaque("foreign").0.ends_with("::NotShaped"));
    assert!(
        opaque("foreign_list").0.contains("Vec<") && opaque("foreign_list").0.contains("NotShaped")
    );
    assert!(
        opaque("foreign_option").1,
        "an option of it may be absent all the same"
    );
    assert_eq!(
        opaque("written_by_hand"),
        ("u64 with hex".to_owned(), false)
    );
    assert_eq!(opaque("by_hand_or_not"), ("u64 with hex".to_owned(), true));
    assert_eq!(fields[5].shape, Shape::Option(Box::new(Shape::Uint(64))));
}

macro_rules! enums {
    ($($name:ident: $(#[$attribute:meta])*;)+) => {
        $(
            #[derive(Serialize, Deserialize, Shaped)]
            #[serde(rename_all = "snake_case", rename_all_fields = "camelCase")]
            $(#[$attribute])*
            enum $name {
                UnitOne,
                NewType(Inner),
                StructLike { long_name: u8, other: Option<bool> },
                #[serde(rename = "RENAMED", rename_all = "UPPERCASE")]
                Renamed { long_name: u8 },
                #[serde(skip)]
                _Skipped(NotShaped),
            }

            impl $name {
                fn samples() -> Vec<Self> {
                    vec![
                        Self::UnitOne,
                        Self::NewType(Inner { number: 1, word: Some("w".to_owned()) }),
                        Self::StructLike { long_name: 1, other: None },
                        Self::Renamed { long_name: 2 },
                    ]
                }
            }
        )+
    };
}
enums! {
    External: ;
    Internal: #[serde(tag = "kind")];
    Adjacent: #[serde(tag = "kind", content = "value")];
    Untagged: #[serde(untagged)];
}

#[derive(Serialize, Deserialize, Shaped)]
enum Tuples {
    None(),
    Two(u8, String),
    #[serde(with = "hex")]
    ByHand(u64),
    #[serde(untagged)]
    Loose(bool),
}

#[test]
fn variants_are_told_as_they_are_written() {
    check(&External::samples());
    check(&Internal::samples());
    check(&Adjacent::samples());
    check(&Untagged::samples());
    check(&[
        Tuples::None(),
        Tuples::Two(1, String::new()),
        Tuples::ByHand(17),
        Tuples::Loose(true),
    ]);
    assert_eq!(
        text::<External>(),
        "External (unit_one | new_type Inner { number: u8, word?: Option<String> } \
         | struct_like StructLike { longName: u8, other?: Option<bool> } | RENAMED Renamed { LONG_NAME: u8 })"
    );
    assert_eq!(
        text::<Internal>(),
        "Internal (unit_one UnitOne { kind: String } \
         | new_type NewType { kind: String, number: u8, word?: Option<String> } \
         | struct_like StructLike { kind: String, longName: u8, other?: Option<bool> } \
         | RENAMED Renamed { kind: String, LONG_NAME: u8 })"
    );
    assert_eq!(
        text::<Adjacent>(),
        "Adjacent (unit_one UnitOne { kind: String } \
         | new_type NewType { kind: String, value: Inner { number: u8, word?: Option<String> } } \
         | struct_like StructLike { kind: String, value: StructLike { longName: u8, other?: Option<bool> } } \
         | RENAMED Renamed { kind: String, value: Renamed { LONG_NAME: u8 } })"
    );
    assert_eq!(
        text::<Untagged>(),
        "Untagged (unit_one (untagged) | new_type (untagged) Inner { number: u8, word?: Option<String> } \
         | struct_like (untagged) StructLike { longName: u8, other?: Option<bool> } \
         | RENAMED (untagged) Renamed { LONG_NAME: u8 })"
    );
    assert_eq!(
        text::<Tuples>(),
        "Tuples (None () | Two (u8, String) | ByHand with hex | Loose (untagged) bool)"
    );
}

/// Whoever changes how variants are told apart changes the bytes, which stored data must not meet unnoticed.
#[test]
fn another_way_of_tagging_is_another_shape() {
    let shapes = [
        External::shape(),
        Internal::shape(),
        Adjacent::shape(),
        Untagged::shape(),
    ];
    for (index, old) in shapes.iter().enumerate() {
        for (other, new) in shapes.iter().enumerate() {
            let reads = statefun_core::shape::compat::reads(old, new);
            assert_eq!(reads.is_ok(), index == other, "{old} read as {new}");
        }
    }
}

#[derive(Serialize, Deserialize, Shaped)]
struct Tree {
    children: Vec<Tree>,
    parent: Option<Box<Forest>>,
}

#[derive(Serialize, Deserialize, Shaped)]
enum Forest {
    Trees(Vec<Tree>, Box<Self>),
    None,
}

#[test]
fn recursion_ends_where_a_type_is_inside_itself() {
    check(&[Tree {
        children: vec![Tree {
            children: vec![],
            parent: None,
        }],
        parent: Some(Box::new(Forest::None)),
    }]);
    assert_eq!(
        text::<Tree>(),
        "Tree { children: [Tree], parent?: Option<Forest (Trees ([Tree], Forest) | None)> }"
    );
    // A type that comes again beside itself, and not inside, is told in full both times.
    assert_eq!(text::<(Inner, Inner)>().matches("number").count(), 2);
}

#[derive(Serialize, Deserialize, Shaped)]
struct Generic<T, K: Ord, const N: usize>
where
    T: Clone,
{
    items: Vec<T>,
    by_key: BTreeMap<K, T>,
    #[serde(skip)]
    _sizes: std::marker::PhantomData<[u8; N]>,
}

#[derive(Shaped)]
struct Holder {
    _generic: Generic<NotShaped, u8, 1>,
}

#[test]
fn generic_types_have_the_shapes_of_their_arguments() {
    assert_eq!(
        text::<Generic<u8, String, 3>>(),
        "Generic { items: [u8], by_key: {String: u8} }"
    );
    // Of an argument without a shape, the whole is opaque.
    let Shape::Struct { fields, .. } = Holder::shape() else {
        panic!("a struct")
    };
    assert!(
        matches!(&fields[0], Field { shape: Shape::Opaque(name), .. } if name.contains("NotShaped"))
    );
}

/// Versions of a state type, with every derive that tells a shape: `Message`, `Shaped` by hand, and that of the attribute.
mod versions {
    use super::*;
    use statefun_core::testing::migrated;

    #[persisted(version = 3)]
    #[derive(Debug, PartialEq, Message)]
    #[message(typename = "shapes/ThirdPart")]
    pub(super) struct Third {
        pub(super) number: u8,
    }

    #[persisted(version = 4, migrate_from = Third)]
    #[derive(Debug, PartialEq, Shaped)]
    pub(super) struct Fourth(u16);

    impl From<Third> for Fourth {
        fn from(old: Third) -> Self {
            Self(old.number.into())
        }
    }

    #[persisted(migrate_from = Fourth, version = 10)]
    #[derive(Debug, PartialEq, Message)]
    #[message(typename = "shapes/Tenth")]
    pub(super) enum Tenth {
        #[default]
        None,
        Some(String),
    }

    impl TryFrom<Fourth> for Tenth {
        type Error = std::num::TryFromIntError;

        fn try_from(old: Fourth) -> Result<Self, Self::Error> {
            Ok(Self::Some(u8::try_from(old.0)?.to_string()))
        }
    }

    #[test]
    fn they_are_declared_with_any_derive() {
        assert_eq!(
            (Third::VERSION, Fourth::VERSION, Tenth::VERSION),
            (3, 4, 10)
        );
        assert_eq!((u8::VERSION, Tree::VERSION), (1, 1));
        let tenth = migrated::<Tenth, _>(&Third { number: 7 });
        assert_eq!(tenth, Ok(Tenth::Some("7".to_owned())));
        assert_eq!(migrated::<Fourth, _>(&Fourth(9)), Ok(Fourth(9)));
        let refused = migrated::<Tenth, _>(&Fourth(999)).unwrap_err().to_string();
        assert!(
            refused.contains("version 4 (`Fourth`) to 10 (`Tenth`): out of range"),
            "{refused}"
        );
    }
}
