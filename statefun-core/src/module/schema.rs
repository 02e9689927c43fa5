//! What each kind of component may hold: fields, their types, defaults and documentation.
//!
//! The `record!` macro writes a spec once and makes two things of it: the struct that serde_yaml reads, and the
//! [`Record`] that the checks walk. So a field cannot be known to one and unknown to the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::codes::Code;
use super::units::ByteSize;

/// What kind of value a field takes.
#[derive(Debug)]
pub enum Type {
    /// Any single value, taken as text.
    Text,
    /// Text that no finding and no rendering shows.
    Secret,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A duration with its unit.
    Duration,
    /// A size in bytes.
    Size,
    /// A name that wires things together.
    Name(Role),
    /// One of a few words.
    Choice {
        /// The words.
        words: &'static [&'static str],
    },
    /// One of a few words, or a map with one of a few keys.
    Either {
        /// The words.
        words: &'static [&'static str],
        /// The keys, with the type of their value.
        keyed: &'static [(&'static str, Type)],
    },
    /// Text that must satisfy a check.
    Checked(&'static Check),
    /// A list.
    List {
        /// Type of its items.
        item: &'static Type,
    },
    /// A map from names to values.
    Map {
        /// What its keys must satisfy.
        key: Option<&'static Check>,
        /// Type of its values.
        value: &'static Type,
    },
    /// A map with known fields.
    Record(&'static Record),
}

/// A check of one text.
#[derive(Debug)]
pub struct Check {
    /// What the text is, for messages: `JSON pointer`.
    pub what: &'static str,
    /// The code of its finding.
    pub code: &'static Code,
    /// Says what is wrong. The message must not repeat the text: it may be a secret.
    pub check: fn(&str) -> Result<(), String>,
    /// How it should look.
    pub help: &'static str,
}

/// What a name stands for in the wiring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The component's own id.
    Id,
    /// An egress that it writes to.
    Egress,
    /// A function type that it sends to.
    Function,
    /// The type of a value that it takes in.
    ValueType,
    /// A router that it runs. Not a `namespace/name`, but a plain name.
    Router,
}

impl Role {
    /// What it is, for messages.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Egress => "egress id",
            Self::Function => "function type",
            Self::ValueType => "value type",
            Self::Router => "router name",
        }
    }
}

/// A map with known fields.
#[derive(Debug)]
pub struct Record {
    /// Name of the struct that it becomes.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its fields, in the order of their declaration.
    pub fields: &'static [Field],
}

impl Record {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// A field of a record.
#[derive(Debug)]
pub struct Field {
    /// Its name in YAML.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// What it takes.
    pub kind: &'static Type,
    /// What holds without it.
    pub absent: Absent,
}

/// What holds when a field is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It must not be.
    Refused,
    /// Nothing is set.
    Nothing,
    /// An empty list.
    EmptyList,
    /// An empty map, or a record whose fields are all absent.
    EmptyMap,
    /// This value, as the text that would stand in YAML.
    Default(&'static str),
}

/// A type that fields can have.
pub trait FieldType {
    /// What it takes in YAML.
    const TYPE: Type;
    /// What holds when the field is absent and has no default.
    const ABSENT: Absent = Absent::Refused;
}

impl FieldType for String {
    const TYPE: Type = Type::Text;
}

impl FieldType for PathBuf {
    const TYPE: Type = Type::Text;
}

impl FieldType for bool {
    const TYPE: Type = Type::Boolean;
}

impl FieldType for u16 {
    const TYPE: Type = Type::Integer {
        min: 0,
        max: u16::MAX as u64,
    };
}

impl FieldType for Duration {
    const TYPE: Type = Type::Duration;
}

impl FieldType for ByteSize {
    const TYPE: Type = Type::Size;
}

impl<T: FieldType> FieldType for Option<T> {
    const TYPE: Type = T::TYPE;
    const ABSENT: Absent = Absent::Nothing;
}

impl<T: FieldType> FieldType for Vec<T> {
    const TYPE: Type = Type::List { item: &T::TYPE };
    const ABSENT: Absent = Absent::EmptyList;
}

impl<T: FieldType> FieldType for BTreeMap<String, T> {
    const TYPE: Type = Type::Map {
        key: None,
        value: &T::TYPE,
    };
    const ABSENT: Absent = Absent::EmptyMap;
}

/// Declares the spec of a component, or a part of one: a struct, and its [`Record`].
///
/// Each field is `name: Type => "nameInYaml"`, with ` = "default"` behind it where there is one: the text that would stand in YAML.
macro_rules! record {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                pub $field:ident: $type:ty => $yaml:literal $(= $default:literal)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $field_doc])*
                #[serde(rename = $yaml)]
                pub $field: $type,
            )*
        }

        impl $name {
            /// Its fields, as the checks and the reference know them.
            pub const RECORD: $crate::module::schema::Record = $crate::module::schema::Record {
                name: stringify!($name),
                doc: concat!($($doc, "\n"),*),
                fields: &[$(
                    $crate::module::schema::Field {
                        name: $yaml,
                        doc: concat!($($field_doc, "\n"),*),
                        kind: &<$type as $crate::module::schema::FieldType>::TYPE,
                        absent: $crate::module::schema::record!(@absent $type $(, $default)?),
                    }
                ),*],
            };
        }

        impl $crate::module::schema::FieldType for $name {
            const TYPE: $crate::module::schema::Type =
                $crate::module::schema::Type::Record(&Self::RECORD);
            const ABSENT: $crate::module::schema::Absent =
                $crate::module::schema::all_absent(&Self::RECORD);
        }
    };
    (@absent $type:ty) => { <$type as $crate::module::schema::FieldType>::ABSENT };
    (@absent $type:ty, $default:literal) => { $crate::module::schema::Absent::Default($default) };
}
pub(crate) use record;

/// A record may be absent when each of its fields may.
pub(crate) const fn all_absent(record: &Record) -> Absent {
    let mut index = 0;
    while index < record.fields.len() {
        if matches!(record.fields[index].absent, Absent::Refused) {
            return Absent::Refused;
        }
        index += 1;
    }
    Absent::EmptyMap
}
