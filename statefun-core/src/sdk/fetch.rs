//! Asking the processor for what a message points to, a while before its handler reads it.
//!
//! The text of a message that another worker has sent stands in that worker's part of the processor. Fetching it takes as long as
//! a whole invocation, and no time at all when it was asked for early enough.

use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use crate::engine::index::prefetch;

/// The first bytes of a text are fetched; whoever reads more is helped by the processor itself.
const FETCHED_BYTES: usize = 128;

/// Bytes that stand elsewhere than the value.
pub trait Text {
    /// The bytes.
    fn bytes(&self) -> &[u8];
}

macro_rules! text {
    ($($type:ty as $form:ty),*) => {$(
        impl Text for $type {
            #[inline]
            fn bytes(&self) -> &[u8] {
                AsRef::<$form>::as_ref(self).as_ref()
            }
        }
    )*};
}
text!(
    String as str,
    CompactString as str,
    Box<str> as str,
    Arc<str> as str,
    Vec<u8> as [u8],
    Bytes as [u8]
);

/// Fetches the text of a field, if it is one. Only for generated code, where the type is concrete.
#[derive(Debug, Clone, Copy)]
pub struct TextProbe<'a, T>(pub &'a T);

impl<T: Text> TextProbe<'_, T> {
    /// Asks for the first bytes.
    #[inline]
    pub fn fetch(self) {
        let bytes = self.0.bytes();
        let start = bytes.as_ptr();
        for offset in (0..bytes.len().min(FETCHED_BYTES)).step_by(64) {
            prefetch(start.wrapping_add(offset));
        }
    }
}

/// What is done with a field that is no text.
pub trait NoText: Sized {
    /// Nothing.
    #[inline]
    fn fetch(self) {}
}

impl<T> NoText for TextProbe<'_, T> {}
