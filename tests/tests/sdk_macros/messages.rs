//! `#[derive(Message)]` and `#[persisted]` on types: codecs, names, what is derived.

use std::collections::BTreeMap;

use statefun_core::__private::{MessageFormat, MessageTypeId};
use statefun_core::prelude::*;
use statefun_core::shape::{Shape, Shaped};

fn encoded<M: Message>(message: &M) -> Vec<u8> {
    let mut bytes = b"before".to_vec();
    message.encode(&mut bytes).unwrap();
    assert!(bytes.starts_with(b"before"), "encoding appends");
    bytes.split_off(6)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "messages/Json")]
struct Json {
    #[serde(rename = "userId")]
    user_id: String,
    #[serde(default)]
    times: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "messages/Msgpack", format = "msgpack")]
enum Msgpack {
    Nothing,
    Some { name: String },
}

#[derive(Clone, PartialEq, prost::Message, Message)]
#[message(typename = "messages/Protobuf", format = "protobuf")]
struct Protobuf {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint32, optional, tag = "5")]
    level: Option<i32>,
    #[prost(message, repeated)]
    children: Vec<Protobuf>,
    #[prost(btree_map = "string, message", tag = "9")]
    by_name: BTreeMap<String, Inner>,
    #[prost(oneof = "Choice", tags = "10, 11")]
    choice: Option<Choice>,
    #[prost(enumeration = "Color", repeated, tag = "12")]
    colors: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message, Shaped)]
#[shaped(format = "protobuf")]
struct Inner {
    #[prost(fixed64)]
    number: u64,
}

#[derive(Clone, PartialEq, prost::Oneof, Shaped)]
#[shaped(format = "protobuf")]
enum Choice {
    #[prost(string, tag = "10")]
    Text(String),
    #[prost(message, tag = "11")]
    Inner(Inner),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
enum Color {
    Red = 0,
}

#[test]
fn each_format_encodes_as_it_says() {
    let json = Json {
        user_id: "ada".to_owned(),
        times: 3,
    };
    assert_eq!(encoded(&json), br#"{"userId":"ada","times":3}"#);
    assert_eq!(
        Json::decode(br#"{"userId":"ada"}"#).unwrap(),
        Json {
            user_id: "ada".to_owned(),
            times: 0
        }
    );
    assert_eq!(
        (Json::FORMAT, Json::type_name()),
        (MessageFormat::Json, "messages/Json")
    );
    assert_eq!(Json::TYPE_ID, MessageTypeId::of("messages/Json"));

    let some = Msgpack::Some {
        name: "x".to_owned(),
    };
    // {"Some": {"name": "x"}}
    assert_eq!(
        encoded(&some),
        [
            0x81, 0xa4, b'S', b'o', b'm', b'e', 0x81, 0xa4, b'n', b'a', b'm', b'e', 0xa1, b'x'
        ]
    );
    assert_eq!(Msgpack::decode(&encoded(&some)).unwrap(), some);
    assert_eq!(
        Msgpack::decode(&encoded(&Msgpack::Nothing)).unwrap(),
        Msgpack::Nothing
    );
    assert_eq!(Msgpack::FORMAT, MessageFormat::Msgpack);

    let protobuf = Protobuf {
        name: "x".to_owned(),
        level: Some(-1),
        choice: Some(Choice::Text("t".to_owned())),
        colors: vec![Color::Red as i32],
        children: vec![Protobuf::default()],
        by_name: BTreeMap::from([("n".to_owned(), Inner { number: 1 })]),
    };
    assert!(encoded(&protobuf).starts_with(&[0x0a, 1, b'x', 0x28, 1]));
    assert_eq!(
        <Protobuf as Message>::decode(&encoded(&protobuf)).unwrap(),
        protobuf
    );
    assert_eq!(Protobuf::FORMAT, MessageFormat::Protobuf);
}

#[test]
fn bytes_of_another_kind_are_refused_with_the_name_of_the_type() {
    for (name, error) in [
        ("messages/Json", Json::decode(b"[1]").err()),
        ("messages/Msgpack", Msgpack::decode(b"\xc1").err()),
        (
            "messages/Protobuf",
            <Protobuf as Message>::decode(b"\x0a\xff").err(),
        ),
    ] {
        assert!(error.unwrap().to_string().starts_with(name), "{name}");
    }
}

#[test]
fn the_shape_of_a_protobuf_message_has_tags_and_wire_types() {
    let shape = serde_json::to_value(<Protobuf as Message>::shape()).unwrap();
    let field =
        |name: &str, shape| serde_json::json!({"name": name, "shape": shape, "optional": true});
    let inner = serde_json::json!({"struct": {"name": "Inner", "fields": [field("1", serde_json::json!({"opaque": "fixed64"}))]}});
    let expected = serde_json::json!({"struct": {"name": "Protobuf", "fields": [
        field("1", serde_json::json!("string")),
        field("5", serde_json::json!({"option": {"opaque": "sint32"}})),
        field("6", serde_json::json!({"seq": {"recursive": "Protobuf"}})),
        field("9", serde_json::json!({"map": ["string", inner.clone()]})),
        field("10,11", serde_json::json!({"option": {"enum": {"name": "Choice", "variants": [
            {"name": "10", "shape": "string"},
            {"name": "11", "shape": inner},
        ]}}})),
        field("12", serde_json::json!({"seq": {"int": 32}})),
    ]}});
    assert_eq!(shape, expected);
}

/// State types: each has all that a state needs, whatever its author derives or implements.
mod persisted_types {
    use super::{Deserialize, Message, Serialize, Shaped, persisted};

    #[persisted]
    #[derive(Debug, PartialEq)]
    pub(super) struct Plain {
        pub(super) a: u8,
    }

    #[persisted]
    #[derive(Debug, PartialEq, Clone, Default, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct AllDerived {
        pub(super) long_name: u8,
    }

    #[persisted]
    #[derive(Debug, Eq, PartialEq, serde::Serialize, std::clone::Clone)]
    #[serde(transparent)]
    pub(super) struct SomeDerived(pub(super) u8);

    #[persisted]
    #[derive(Debug, PartialEq)]
    pub(super) enum Choice {
        #[default]
        None,
        Some(u8),
    }

    #[persisted(without(Default, Clone))]
    #[derive(Debug, PartialEq)]
    pub(super) enum ByHand {
        One,
        Two,
    }
    impl Default for ByHand {
        fn default() -> Self {
            [Self::One, Self::Two][0].clone()
        }
    }
    impl Clone for ByHand {
        fn clone(&self) -> Self {
            if *self == Self::One {
                Self::One
            } else {
                Self::Two
            }
        }
    }

    #[persisted]
    #[derive(Debug, PartialEq)]
    pub(super) struct Page<T, const N: usize = 2> {
        pub(super) items: Vec<T>,
        #[serde(skip)]
        pub(super) sizes: std::marker::PhantomData<[u8; N]>,
    }
    impl<T> Page<T> {
        pub(super) fn of(item: T) -> Self {
            Self {
                items: vec![item],
                sizes: std::marker::PhantomData,
            }
        }
    }

    /// Both state and message.
    #[persisted]
    #[derive(Debug, PartialEq, Message)]
    #[message(typename = "messages/Both")]
    pub(super) struct Both {
        pub(super) a: u8,
    }

    #[persisted(crate = ::statefun_core)]
    #[derive(Debug, PartialEq, Shaped)]
    pub(super) struct Unit;
}

#[test]
fn state_types_have_what_states_need() {
    fn check<T>(value: &T, json: &str)
    where
        T: Serialize
            + serde::de::DeserializeOwned
            + Clone
            + Default
            + Shaped
            + PartialEq
            + std::fmt::Debug,
    {
        assert_eq!(serde_json::to_string(value).unwrap(), json);
        assert_eq!(&serde_json::from_str::<T>(json).unwrap(), value);
        assert_eq!(&value.clone(), value);
        let _ = (T::default(), <T as Shaped>::shape());
    }
    use persisted_types::{AllDerived, Both, ByHand, Choice, Page, Plain, SomeDerived, Unit};
    check(&Plain { a: 1 }, r#"{"a":1}"#);
    check(&AllDerived { long_name: 1 }, r#"{"longName":1}"#);
    assert_eq!(serde_json::to_string(&SomeDerived(3)).unwrap(), "3");
    assert_eq!(
        serde_json::from_str::<SomeDerived>("3").unwrap(),
        SomeDerived::default().clone_with(3)
    );
    check(&Choice::Some(2), r#"{"Some":2}"#);
    assert_eq!(Choice::default(), Choice::None);
    check(&ByHand::Two, r#""Two""#);
    check(&Both { a: 2 }, r#"{"a":2}"#);
    check(&Unit, "null");
    let page = Page::of(7u8);
    assert_eq!(
        serde_json::to_string(&page.clone()).unwrap(),
        r#"{"items":[7]}"#
    );
    let Shape::Struct { fields, .. } = <Vec<Page<u8, 3>> as Shaped>::shape().element() else {
        panic!("a struct")
    };
    assert_eq!(fields.len(), 1);
    assert_eq!(fields[0].shape, Shape::Seq(Box::new(Shape::Uint(8))));
}

impl persisted_types::SomeDerived {
    fn clone_with(&self, value: u8) -> Self {
        let mut other = self.clone();
        other.0 = value;
        other
    }
}

trait Element {
    fn element(self) -> Shape;
}
impl Element for Shape {
    fn element(self) -> Shape {
        match self {
            Shape::Seq(element) => *element,
            other => other,
        }
    }
}
