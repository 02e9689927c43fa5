//! Shapes as they are met on the way into a value.

use crate::shape::Shape;

/// The structs and enums that enclose a place, so that a recursive use of one is found.
#[derive(Debug, Default)]
pub(crate) struct Scope<'s> {
    open: Vec<(&'s str, &'s Shape)>,
}

/// Nothing is known of what is there.
pub(crate) const UNKNOWN: &Shape = &Shape::Opaque(String::new());

impl<'s> Scope<'s> {
    /// What a shape stands for. Where two enclosing types have the name of a recursive use, nobody knows which is meant.
    pub(crate) fn resolve(&self, shape: &'s Shape) -> &'s Shape {
        let Shape::Recursive(name) = shape else {
            return shape;
        };
        let mut found: Option<&'s Shape> = None;
        for (_, shape) in self.open.iter().filter(|(open, _)| open == name) {
            if found.is_some_and(|found| found != *shape) {
                return UNKNOWN;
            }
            found = Some(shape);
        }
        found.unwrap_or(UNKNOWN)
    }

    /// Goes into a shape; true when that is to be left again.
    pub(crate) fn enter(&mut self, shape: &'s Shape) -> bool {
        let (Shape::Struct { name, .. } | Shape::Enum { name, .. }) = shape else {
            return false;
        };
        self.open.push((name, shape));
        true
    }

    pub(crate) fn leave(&mut self) {
        self.open.pop();
    }
}
