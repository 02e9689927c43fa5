//! Shapes: the full structure of state and message types, stored with the data so that a change is seen before it hurts.

use serde::{Deserialize, Serialize};

/// The structure of a serialized type, as serde lays it out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `()` and unit structs.
    #[default]
    Unit,
    /// `bool`.
    Bool,
    /// A signed integer of so many bits.
    Int(u16),
    /// An unsigned integer of so many bits.
    Uint(u16),
    /// A floating point number of so many bits.
    Float(u16),
    /// `char`.
    Char,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// `Option<T>`.
    Option(Box<Shape>),
    /// A list or set of any length.
    Seq(Box<Shape>),
    /// A map.
    Map(Box<Shape>, Box<Shape>),
    /// A tuple, array or tuple struct.
    Tuple(Vec<Shape>),
    /// A struct with named fields.
    Struct {
        /// The type's name in Rust.
        name: String,
        /// Its fields, in the order of their declaration.
        fields: Vec<Field>,
    },
    /// An enum.
    Enum {
        /// The type's name in Rust.
        name: String,
        /// Its variants, in the order of their declaration.
        variants: Vec<Variant>,
    },
    /// A recursive use of an enclosing struct or enum of that name.
    Recursive(String),
    /// A type that the derive cannot look into; the name is Rust's.
    Opaque(String),
}

/// A field of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name as serialized.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// Whether a reader may do without it: `#[serde(default)]` or an `Option`.
    pub optional: bool,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Its name as serialized.
    pub name: String,
    /// What it carries.
    pub shape: Shape,
}
