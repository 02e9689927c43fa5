//! No text panics.
