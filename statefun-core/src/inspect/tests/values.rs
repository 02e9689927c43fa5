//! Values to JSON and back.

use proptest::prelude::*;

use crate::inspect::json::Json;
use crate::inspect::pack::{Reader, Token};
use crate::inspect::{decode, encode};
use crate::shape::{Field, Shape, Variant};

/// A value in MessagePack.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Nil,
    Bool(bool),
    Int(i128),
    F32(u32),
    F64(u64),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    Ext(i8, Vec<u8>),
    Array(Vec<Self>),
    /// Pairs, sorted: their order means nothing.
    Map(Vec<(Self, Self)>),
}

impl Tree {
    fn read(input: &mut Reader<'_>) -> Self {
        match input.token().unwrap() {
            Token::Nil => Self::Nil,
            Token::Bool(value) => Self::Bool(value),
            Token::Int(value) => Self::Int(value),
            Token::F32(value) => Self::F32(value.to_bits()),
            Token::F64(value) => Self::F64(value.to_bits()),
            Token::Text(text) => Self::Text(text.to_vec()),
            Token::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Token::Ext(kind, bytes) => Self::Ext(kind, bytes.to_vec()),
            Token::Array(len) => Self::Array((0..len).map(|_| Self::read(input)).collect()),
            Token::Map(len) => {
                let pairs = (0..len).map(|_| (Self::read(input), Self::read(input)));
                let mut pairs: Vec<_> = pairs.collect();
                pairs.sort_by_cached_key(|pair| format!("{pair:?}"));
                Self::Map(pairs)
            }
        }
    }

    fn of(bytes: &[u8]) -> Self {
        Self::read(&mut Reader::new(bytes))
    }

    fn write(&self, out: &mut Vec<u8>) {
        use rmp::encode as pack;
        match self {
            Self::Nil => out.push(0xc0),
            Self::Bool(value) => out.push(0xc2 + u8::from(*value)),
            Self::Int(value) => match u64::try_from(*value) {
                Ok(value) => _ = pack::write_uint(out, value).unwrap(),
                Err(_) => _ = pack::write_sint(out, *value as i64).unwrap(),
            },
            Self::F32(bits) => {
                out.push(0xca);
                out.extend_from_slice(&bits.to_be_bytes());
            }
            Self::F64(bits) => {
                out.push(0xcb);
                out.extend_from_slice(&bits.to_be_bytes());
            }
            Self::Text(text) => {
                pack::write_str_len(out, text.len() as u32).unwrap();
                out.extend_from_slice(text);
            }
            Self::Bytes(bytes) => pack::write_bin(out, bytes).unwrap(),
            Self::Ext(kind, bytes) => {
                pack::write_ext_meta(out, bytes.len() as u32, *kind).unwrap();
                out.extend_from_slice(bytes);
            }
            Self::Array(items) => {
                pack::write_array_len(out, items.len() as u32).unwrap();
                for item in items {
                    item.write(out);
                }
            }
            Self::Map(pairs) => {
                pack::write_map_len(out, pairs.len() as u32).unwrap();
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

fn scalar() -> impl Strategy<Value = Tree> {
    let special = prop::sample::select(vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::MIN_POSITIVE,
        5e-324,
    ]);
    prop_oneof![
        Just(Tree::Nil),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(|value| Tree::Int(value.into())),
        any::<u64>().prop_map(|value| Tree::Int(value.into())),
        (-200_i128..300).prop_map(Tree::Int),
        any::<u32>().prop_map(Tree::F32),
        any::<u64>().prop_map(Tree::F64),
        special.clone().prop_map(|value| Tree::F64(value.to_bits())),
        special.prop_map(|value| Tree::F32((value as f32).to_bits())),
        name().prop_map(|text| Tree::Text(text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..6).prop_map(Tree::Text),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Tree::Bytes),
        (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, bytes)| Tree::Ext(kind, bytes)),
    ]
}

/// Names, among them those that mean something.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "a", "b", "c", "$any", "$int", "$map", "$", "1", "true", ""
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    scalar().prop_recursive(5, 40, 5, |inner| {
        let key = prop_oneof![
            3 => name().prop_map(|name| Tree::Text(name.into_bytes())),
            1 => inner.clone(),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::Array),
            prop::collection::vec((key, inner), 0..5).prop_map(Tree::Map),
        ]
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Unit),
        Just(Shape::Bool),
        prop::sample::select(vec![8_u16, 16, 32, 64, 128]).prop_map(Shape::Int),
        prop::sample::select(vec![8_u16, 16, 32, 64, 128]).prop_map(Shape::Uint),
        prop::sample::select(vec![32_u16, 64]).prop_map(Shape::Float),
        Just(Shape::Char),
        Just(Shape::String),
        Just(Shape::Bytes),
        Just(Shape::Opaque("Foreign".to_owned())),
        prop::sample::select(vec!["S", "E", "T"])
            .prop_map(|name| Shape::Recursive(name.to_owned())),
    ];
    let names = || prop::sample::select(vec!["S", "E", "T"]).prop_map(str::to_owned);
    leaf.prop_recursive(4, 30, 4, move |inner| {
        let field = (inner.clone(), any::<bool>());
        prop_oneof![
            inner
                .clone()
                .prop_map(|shape| Shape::Option(Box::new(shape))),
            inner.clone().prop_map(|shape| Shape::Seq(Box::new(shape))),
            (inner.clone(), inner.clone())
                .prop_map(|(key, value)| Shape::Map(Box::new(key), Box::new(value))),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Shape::Tuple),
            (names(), prop::collection::vec(field, 0..4)).prop_map(|(name, fields)| {
                let fields = fields.into_iter().enumerate();
                let field = |(index, (shape, optional)): (usize, (Shape, bool))| Field {
                    name: ["a", "b", "$c", "d"][index].to_owned(),
                    shape,
                    optional,
                };
                Shape::Struct {
                    name,
                    fields: fields.map(field).collect(),
                }
            }),
            (names(), prop::collection::vec(inner, 1..4)).prop_map(|(name, shapes)| {
                let shapes = shapes.into_iter().enumerate();
                let variant = |(index, shape): (usize, Shape)| Variant {
                    name: ["A", "B", "$C", "D"][index].to_owned(),
                    shape,
                };
                Shape::Enum {
                    name,
                    variants: shapes.map(variant).collect(),
                }
            }),
        ]
    })
}

/// Values that have a shape.
fn of(shape: &Shape) -> BoxedStrategy<Tree> {
    let list = |items: Vec<BoxedStrategy<Tree>>| items.prop_map(Tree::Array).boxed();
    match shape {
        Shape::Unit => prop_oneof![Just(Tree::Nil), Just(Tree::Array(Vec::new()))].boxed(),
        Shape::Bool => any::<bool>().prop_map(Tree::Bool).boxed(),
        Shape::Int(128) | Shape::Uint(128) => prop::collection::vec(any::<u8>(), 16)
            .prop_map(Tree::Bytes)
            .boxed(),
        Shape::Int(bits) => {
            let most = (1_i128 << (bits - 1)) - 1;
            (-most - 1..=most).prop_map(Tree::Int).boxed()
        }
        Shape::Uint(bits) => (0..1_i128 << bits).prop_map(Tree::Int).boxed(),
        Shape::Float(32) => any::<u32>().prop_map(Tree::F32).boxed(),
        Shape::Float(_) => any::<u64>().prop_map(Tree::F64).boxed(),
        Shape::Char => any::<char>()
            .prop_map(|c| Tree::Text(c.to_string().into_bytes()))
            .boxed(),
        Shape::String => name()
            .prop_map(|text| Tree::Text(text.into_bytes()))
            .boxed(),
        Shape::Bytes => prop::collection::vec(any::<u8>(), 0..20)
            .prop_map(Tree::Bytes)
            .boxed(),
        Shape::Option(inner) => prop_oneof![Just(Tree::Nil), of(inner)].boxed(),
        Shape::Seq(inner) => prop::collection::vec(of(inner), 0..4)
            .prop_map(Tree::Array)
            .boxed(),
        Shape::Map(key, value) => prop::collection::vec((of(key), of(value)), 0..4)
            .prop_map(Tree::Map)
            .boxed(),
        Shape::Tuple(items) => list(items.iter().map(of).collect()),
        Shape::Struct { fields, .. } => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| {
                    let name = Tree::Text(field.name.clone().into_bytes());
                    let optional = field.optional;
                    (Just(name), of(&field.shape), any::<bool>())
                        .prop_map(move |(name, value, absent)| {
                            (!(absent && optional)).then_some((name, value))
                        })
                        .boxed()
                })
                .collect();
            fields
                .prop_map(|fields| Tree::Map(fields.into_iter().flatten().collect()))
                .boxed()
        }
        Shape::Enum { variants, .. } => {
            let variants = variants.iter().map(|variant| {
                let name = Tree::Text(variant.name.clone().into_bytes());
                match &variant.shape {
                    Shape::Unit => Just(name).boxed(),
                    shape => of(shape)
                        .prop_map(move |value| Tree::Map(vec![(name.clone(), value)]))
                        .boxed(),
                }
            });
            proptest::strategy::Union::new(variants).boxed()
        }
        Shape::Recursive(_) | Shape::Opaque(_) => tree().boxed(),
    }
}

fn comes_back(bytes: &[u8], shape: &Shape) -> Result<String, TestCaseError> {
    let json = decode::value(bytes, shape).unwrap();
    let text = json.to_string();
    let read: Json = serde_json::from_str(&text).unwrap();
    prop_assert_eq!(&read, &json);
    let mut again = Vec::new();
    if let Err(misfit) = encode::value(&read, shape, &mut again) {
        prop_assert!(false, "{misfit}: {text}");
    }
    prop_assert_eq!(Tree::of(&again), Tree::of(bytes), "{}", text);
    // What came back is shown in the same words.
    prop_assert_eq!(
        decode::value(&again, shape).unwrap().to_string(),
        text.clone()
    );
    Ok(text)
}

proptest! {
    #[test]
    fn values_of_their_shape_come_back(
        (shape, tree) in shape().prop_flat_map(|shape| { let tree = of(&shape); (Just(shape), tree) })
    ) {
        comes_back(&tree.bytes(), &shape)?;
    }

    #[test]
    fn values_come_back_whatever_the_shape(shape in shape(), tree in tree()) {
        comes_back(&tree.bytes(), &shape)?;
    }

    #[test]
    fn any_bytes_and_any_json_are_read_without_a_panic(shape in shape(), bytes: Vec<u8>, tree in tree()) {
        if let Ok(json) = decode::value(&bytes, &shape) {
            let _ = encode::value(&json, &shape, &mut Vec::new());
        }
        let json = decode::value(&tree.bytes(), &Shape::Opaque(String::new())).unwrap();
        let _ = encode::value(&json, &shape, &mut Vec::new());
    }
}

fn shown(bytes: &[u8], shape: &Shape) -> String {
    comes_back(bytes, shape).unwrap()
}

#[test]
fn values_look_as_one_expects() {
    use std::collections::BTreeMap;
    let pack = |value: &dyn erased::Serialize| value.packed();
    let numbers = Shape::Map(Box::new(Shape::Uint(64)), Box::new(Shape::Float(32)));
    for (bytes, shape, expected) in [
        (pack(&5_u8), Shape::Uint(8), "5"),
        (
            pack(&u64::MAX),
            Shape::Uint(64),
            r#"{"$int":"18446744073709551615"}"#,
        ),
        (pack(&7_u128), Shape::Uint(128), "7"),
        (pack(&0.1_f32), Shape::Float(32), "0.1"),
        (pack(&2.0_f64), Shape::Float(64), "2.0"),
        (pack(&f64::NAN), Shape::Float(64), r#"{"$float":"NaN"}"#),
        (
            pack(&BTreeMap::from([(10_u64, 0.5_f32), (9, 1e30)])),
            numbers,
            r#"{"9":1e+30,"10":0.5}"#,
        ),
        (
            pack(&BTreeMap::from([((1, 2), true)])),
            Shape::Opaque("x".to_owned()),
            r#"{"$map":[[[1,2],true]]}"#,
        ),
        (pack(&"x"), Shape::Uint(8), r#"{"$any":"x"}"#),
    ] {
        assert_eq!(shown(&bytes, &shape), expected);
    }
}

/// Values of several types in one list.
mod erased {
    pub(super) trait Serialize {
        fn packed(&self) -> Vec<u8>;
    }
    impl<T: serde::Serialize> Serialize for T {
        fn packed(&self) -> Vec<u8> {
            rmp_serde::to_vec_named(self).unwrap()
        }
    }
}

#[test]
fn what_is_deep_is_shown_as_bytes_and_comes_back() {
    let mut tree = Tree::Int(1);
    for level in 0..1_000 {
        tree = if level % 2 == 0 {
            Tree::Array(vec![tree])
        } else {
            Tree::Map(vec![(Tree::Int(level), tree)])
        };
    }
    let text = shown(&tree.bytes(), &Shape::Opaque(String::new()));
    assert!(text.contains("$msgpack"), "{text}");
}

#[test]
fn a_recursive_type_is_followed() {
    let shape = Shape::Struct {
        name: "Node".to_owned(),
        fields: vec![
            Field {
                name: "weight".to_owned(),
                shape: Shape::Float(32),
                optional: false,
            },
            Field {
                name: "children".to_owned(),
                shape: Shape::Seq(Box::new(Shape::Recursive("Node".to_owned()))),
                optional: false,
            },
        ],
    };
    let node = |weight: f32, children: Vec<Tree>| {
        Tree::Map(vec![
            (Tree::Text(b"weight".to_vec()), Tree::F32(weight.to_bits())),
            (Tree::Text(b"children".to_vec()), Tree::Array(children)),
        ])
    };
    let tree = node(0.1, vec![node(0.2, vec![])]);
    assert_eq!(
        shown(&tree.bytes(), &shape),
        r#"{"weight":0.1,"children":[{"weight":0.2,"children":[]}]}"#
    );
}

#[test]
fn what_does_not_fit_says_where() {
    let line = Shape::Struct {
        name: "Line".to_owned(),
        fields: vec![Field {
            name: "count".to_owned(),
            shape: Shape::Uint(8),
            optional: false,
        }],
    };
    let shape = Shape::Map(
        Box::new(Shape::String),
        Box::new(Shape::Seq(Box::new(line))),
    );
    for (json, expected) in [
        (
            r#"{"apple":[{"count":1},{"count":"x"}]}"#,
            "`apple[1].count`: expected u8, found \"x\"",
        ),
        (
            r#"{"apple":[{"count":256}]}"#,
            "`apple[0].count`: expected u8, found 256",
        ),
        (
            r#"{"apple":[{}]}"#,
            "`apple[0].count`: the field is missing; Line needs it, a u8",
        ),
        (
            r#"{"apple":[{"count":1,"cuont":2}]}"#,
            "`apple[0].cuont`: Line has no such field; did you mean `count`?",
        ),
        (
            r#"{"apple":[{"count":1,"count":2}]}"#,
            "`apple[0].count`: it is given twice",
        ),
        (
            r#"{"apple":3}"#,
            "`apple`: expected [Line { count: u8 }], found 3",
        ),
        ("null", "expected an object, found null"),
    ] {
        let json: Json = serde_json::from_str(json).unwrap();
        let misfit = encode::value(&json, &shape, &mut Vec::new()).unwrap_err();
        assert_eq!(misfit.to_string(), expected);
    }
}
