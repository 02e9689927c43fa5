//! Memory for many things of a kind, in large pieces that are never moved.
//!
//! A vector of a million instances would be copied as a whole when it grows, which stalls its worker; and spread over small
//! pages, nearly each access needs a walk through the page tables, which costs as much as the access itself. So the pieces
//! are large, and ask for huge pages.

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 16 << 20;
/// Memory below this is not worth asking for huge pages, in bytes.
const HUGE_FROM_BYTES: usize = 4 << 20;

/// Asks that the memory of a vector consists of huge pages as it is first touched: a hint without any effect on content.
pub(crate) fn advise_huge<T>(memory: &Vec<T>) {
    let bytes = memory.capacity() * size_of::<T>();
    if bytes < HUGE_FROM_BYTES {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = memory.as_ptr().cast::<u8>();
        let lead = start.align_offset(PAGE);
        let whole = bytes.saturating_sub(lead) / PAGE * PAGE;
        #[expect(
            unsafe_code,
            reason = "advising the kernel on memory has no safe door in std"
        )]
        // SAFETY: the range lies within one allocation that the vector owns, and this advice changes neither its content nor
        // its protection.
        unsafe {
            // A kernel without huge pages refuses; nothing is lost then.
            let _ = rustix::mm::madvise(
                start.wrapping_add(lead).cast_mut().cast(),
                whole,
                rustix::mm::Advice::LinuxHugepage,
            );
        }
    }
}

/// A growing array whose elements keep their place.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pieces: Vec<Vec<T>>,
    len: usize,
}

impl<T> Slab<T> {
    /// Elements of a piece; a power of two.
    const PER_PIECE: usize = {
        let size = if size_of::<T>() == 0 {
            1
        } else {
            size_of::<T>()
        };
        let count = PIECE_BYTES / size;
        if count < 2 {
            1
        } else {
            (count + 1).next_power_of_two() / 2
        }
    };

    pub(crate) fn new() -> Self {
        Self {
            pieces: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.pieces
            .get(at / Self::PER_PIECE)?
            .get(at % Self::PER_PIECE)
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.pieces
            .get_mut(at / Self::PER_PIECE)?
            .get_mut(at % Self::PER_PIECE)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// Removes all elements, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for piece in &mut self.pieces {
            piece.clear();
        }
        self.len = 0;
    }

    /// Appends an element. Only the first piece grows, so that few elements take little memory.
    pub(crate) fn push(&mut self, element: T) {
        let piece = self.len / Self::PER_PIECE;
        if piece == self.pieces.len() {
            let room = if piece == 0 { 0 } else { Self::PER_PIECE };
            let memory = Vec::with_capacity(room);
            advise_huge(&memory);
            self.pieces.push(memory);
        }
        if let Some(piece) = self.pieces.get_mut(piece) {
            piece.push(element);
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_where_they_were_put() {
        // So large that a piece holds few.
        let mut slab: Slab<[u64; 1_024]> = Slab::new();
        assert!(slab.get(0).is_none());
        for number in 0..5_000_u64 {
            slab.push([number; 1_024]);
        }
        assert_eq!(slab.len(), 5_000);
        assert_eq!(Slab::<[u64; 1_024]>::PER_PIECE, 2_048);
        for number in 0..5_000_usize {
            let found = slab.get(number).map(|element| element[1_023]);
            assert_eq!(found, Some(number as u64));
        }
        if let Some(element) = slab.get_mut(4_999) {
            element[0] = 7;
        }
        assert_eq!(slab.get(4_999).map(|element| element[0]), Some(7));
        assert!(slab.get(5_000).is_none());
        assert_eq!(slab.iter().count(), 5_000);
        slab.clear();
        assert_eq!((slab.len(), slab.get(0).is_some()), (0, false));
        slab.push([9; 1_024]);
        assert_eq!(slab.get(0).map(|element| element[1]), Some(9));
        assert!(slab.get_mut(9_000).is_none());
    }

    #[test]
    fn small_and_large_elements_have_a_place() {
        assert_eq!(Slab::<[u8; 17 << 20]>::PER_PIECE, 1);
        assert_eq!(Slab::<u8>::PER_PIECE, PIECE_BYTES);
        assert_eq!(Slab::<[u8; 3]>::PER_PIECE, 4 << 20);
        let mut units: Slab<()> = Slab::new();
        units.push(());
        assert_eq!(units.get(0), Some(&()));
    }
}
