//! Shapes: the full structure of state and message types, stored with the data so that a change is seen before it hurts.

pub mod compat;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::sdk::state::Versions;

pub use statefun_macros::Shaped;

/// The version of a type that declares none.
pub(crate) const FIRST_VERSION: u32 = 1;

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

impl Shape {
    /// Whether that holds for the shape or for any part of it.
    pub(crate) fn any(&self, holds: &mut impl FnMut(&Self) -> bool) -> bool {
        holds(self)
            || match self {
                Self::Option(inner) | Self::Seq(inner) => inner.any(holds),
                Self::Map(key, value) => key.any(holds) || value.any(holds),
                Self::Tuple(parts) => parts.iter().any(|part| part.any(holds)),
                Self::Struct { fields, .. } => fields.iter().any(|field| field.shape.any(holds)),
                Self::Enum { variants, .. } => {
                    variants.iter().any(|variant| variant.shape.any(holds))
                }
                Self::Unit
                | Self::Bool
                | Self::Int(_)
                | Self::Uint(_)
                | Self::Float(_)
                | Self::Char
                | Self::String
                | Self::Bytes
                | Self::Recursive(_)
                | Self::Opaque(_) => false,
            }
    }
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

/// Gathers the fields of a struct; what derived code calls.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct ShapeFields(Vec<Field>);

impl ShapeFields {
    fn push(mut self, name: &str, shape: Shape, optional: bool) -> Self {
        self.0.push(Field {
            name: name.to_owned(),
            shape,
            optional,
        });
        self
    }

    /// A field that must be there.
    pub fn required(self, name: &str, shape: Shape) -> Self {
        self.push(name, shape, false)
    }

    /// A field that may be absent.
    pub fn optional(self, name: &str, shape: Shape) -> Self {
        self.push(name, shape, true)
    }

    /// A field that may be absent when it is an `Option`, under whatever name.
    pub fn by_shape(self, name: &str, shape: Shape) -> Self {
        let optional = matches!(shape, Shape::Option(_));
        self.push(name, shape, optional)
    }

    /// `#[serde(flatten)]`: the fields of a struct stand among those of the enclosing one. Of anything else the bytes do not
    /// tell which field is whose, so it is opaque.
    pub fn flattened(mut self, name: &str, shape: Shape) -> Self {
        let (inner, optional) = match shape {
            Shape::Option(inner) => (*inner, true),
            inner => (inner, false),
        };
        match inner {
            Shape::Struct { fields, .. } => {
                self.0.extend(fields.into_iter().map(|field| Field {
                    optional: field.optional || optional,
                    ..field
                }));
                self
            }
            other => {
                let kind = match other {
                    Shape::Opaque(name) | Shape::Recursive(name) | Shape::Enum { name, .. } => name,
                    other => serde_json::to_string(&other).unwrap_or_default(),
                };
                self.push(name, Shape::Opaque(format!("flattened {kind}")), true)
            }
        }
    }

    /// The struct of these fields.
    pub fn into_struct(self, name: &str) -> Shape {
        Shape::Struct {
            name: name.to_owned(),
            fields: self.0,
        }
    }
}

/// The enclosing types while a shape is built, so that a recursive one ends.
#[derive(Debug, Default)]
pub struct ShapeScope {
    open: Vec<(std::any::TypeId, &'static str)>,
}

impl ShapeScope {
    /// Builds the shape of the struct or enum `T`, or names it when it is open already.
    pub fn named<T: 'static>(
        &mut self,
        name: &'static str,
        build: impl FnOnce(&mut Self) -> Shape,
    ) -> Shape {
        let id = std::any::TypeId::of::<T>();
        if self.open.iter().any(|(open, _)| *open == id) {
            return Shape::Recursive(name.to_owned());
        }
        self.open.push((id, name));
        let shape = build(self);
        self.open.pop();
        shape
    }
}

/// A type whose serialized structure is known. `#[derive(Message)]` and `#[persisted]` implement it; `#[derive(Shaped)]` does
/// for the types inside them.
pub trait Shaped: 'static {
    /// The shape, seen from inside the types of `scope`.
    fn shape_in(scope: &mut ShapeScope) -> Shape;

    /// The shape.
    fn shape() -> Shape
    where
        Self: Sized,
    {
        Self::shape_in(&mut ShapeScope::default())
    }

    /// Its version as a state type: `#[persisted(version = …)]`.
    #[doc(hidden)]
    const VERSION: u32 = FIRST_VERSION;

    /// The versions before it whose rows it reads: `#[persisted(migrate_from = …)]`.
    #[doc(hidden)]
    fn versions() -> Versions<Self>
    where
        Self: Sized,
    {
        Versions::declared(Self::VERSION)
    }
}

/// Finds the shape of any type: its own where it is [`Shaped`], an opaque one elsewhere.
///
/// Only for generated code, where the type is concrete: the inherent method is chosen where its bound holds.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ShapeProbe<T>(std::marker::PhantomData<T>);

impl<T> ShapeProbe<T> {
    /// A probe of `T`.
    pub const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Shaped> ShapeProbe<T> {
    /// The type's own shape.
    pub fn shape_in(self, scope: &mut ShapeScope) -> Shape {
        T::shape_in(scope)
    }

    /// What the type says of its versions.
    pub fn versions(self) -> Versions<T> {
        T::versions()
    }
}

/// The answer of [`ShapeProbe`] for types that nothing is known of.
#[doc(hidden)]
pub trait OpaqueShape: Sized {
    /// An opaque shape with the type's name.
    fn shape_in(self, scope: &mut ShapeScope) -> Shape;
}

impl<T> OpaqueShape for ShapeProbe<T> {
    fn shape_in(self, _scope: &mut ShapeScope) -> Shape {
        Shape::Opaque(std::any::type_name::<T>().to_owned())
    }
}

macro_rules! shaped {
    ($($type:ty => $shape:expr;)*) => {
        $(impl Shaped for $type {
            fn shape_in(_scope: &mut ShapeScope) -> Shape { $shape }
        })*
    };
}

shaped! {
    () => Shape::Unit;
    bool => Shape::Bool;
    i8 => Shape::Int(8);
    i16 => Shape::Int(16);
    i32 => Shape::Int(32);
    i64 => Shape::Int(64);
    i128 => Shape::Int(128);
    isize => Shape::Int(64);
    u8 => Shape::Uint(8);
    u16 => Shape::Uint(16);
    u32 => Shape::Uint(32);
    u64 => Shape::Uint(64);
    u128 => Shape::Uint(128);
    usize => Shape::Uint(64);
    f32 => Shape::Float(32);
    f64 => Shape::Float(64);
    char => Shape::Char;
    String => Shape::String;
    Box<str> => Shape::String;
    std::sync::Arc<str> => Shape::String;
    compact_str::CompactString => Shape::String;
    std::path::PathBuf => Shape::String;
    std::time::Duration => Shape::Struct {
        name: "Duration".to_owned(),
        fields: vec![
            Field { name: "secs".to_owned(), shape: Shape::Uint(64), optional: false },
            Field { name: "nanos".to_owned(), shape: Shape::Uint(32), optional: false },
        ],
    };
    crate::clock::Timestamp => Shape::Uint(64);
    crate::id::TypeName => Shape::String;
    bytes::Bytes => Shape::Bytes;
    crate::id::Address => Shape::Struct {
        name: "Address".to_owned(),
        fields: vec![
            Field { name: "function".to_owned(), shape: Shape::String, optional: false },
            Field { name: "id".to_owned(), shape: Shape::String, optional: false },
        ],
    };
}

macro_rules! shaped_containers {
    ($($type:ident<$($arg:ident),+ $(; $hasher:ident)?> => $shape:expr;)*) => {
        $(impl<$($arg: Shaped,)+ $($hasher: 'static)?> Shaped for $type<$($arg,)+ $($hasher)?> {
            fn shape_in(scope: &mut ShapeScope) -> Shape {
                let shape: fn(&mut ShapeScope) -> Shape = $shape;
                shape(scope)
            }
        })*
    };
}

shaped_containers! {
    Option<T> => |scope| Shape::Option(Box::new(T::shape_in(scope)));
    Box<T> => |scope| T::shape_in(scope);
    Rc<T> => |scope| T::shape_in(scope);
    Arc<T> => |scope| T::shape_in(scope);
    Vec<T> => |scope| Shape::Seq(Box::new(T::shape_in(scope)));
    VecDeque<T> => |scope| Shape::Seq(Box::new(T::shape_in(scope)));
    LinkedList<T> => |scope| Shape::Seq(Box::new(T::shape_in(scope)));
    BinaryHeap<T> => |scope| Shape::Seq(Box::new(T::shape_in(scope)));
    BTreeSet<T> => |scope| Shape::Seq(Box::new(T::shape_in(scope)));
    HashSet<T; S> => |scope| Shape::Seq(Box::new(T::shape_in(scope)));
    BTreeMap<K, V> => |scope| Shape::Map(Box::new(K::shape_in(scope)), Box::new(V::shape_in(scope)));
    HashMap<K, V; S> => |scope| Shape::Map(Box::new(K::shape_in(scope)), Box::new(V::shape_in(scope)));
}

impl<T: Shaped, const N: usize> Shaped for [T; N] {
    fn shape_in(scope: &mut ShapeScope) -> Shape {
        let element = T::shape_in(scope);
        Shape::Tuple(vec![element; N])
    }
}

macro_rules! shaped_tuples {
    ($(($($arg:ident),+))*) => {
        $(impl<$($arg: Shaped),+> Shaped for ($($arg,)+) {
            fn shape_in(scope: &mut ShapeScope) -> Shape {
                Shape::Tuple(vec![$($arg::shape_in(scope)),+])
            }
        })*
    };
}

shaped_tuples! { (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) }
