//! Rows that come one after the other, in memory that is used again.

use super::error::RunError;

/// A row: its key, and its value or none when it is a delete.
pub type RunRow<'a> = (&'a [u8], Option<&'a [u8]>);

/// Rows in the strictly ascending order of their keys.
pub trait Rows {
    /// Goes to the next row; false when there is none.
    ///
    /// # Errors
    /// [`RunError`]; from then on there are only errors.
    fn advance(&mut self) -> Result<bool, RunError>;

    /// The key of the row. It means nothing unless [`Rows::advance`] has just said that there is one.
    fn key(&self) -> &[u8];

    /// The value of the row, none when it is a delete. It means nothing unless [`Rows::advance`] has just said that there is a
    /// row.
    fn value(&self) -> Option<&[u8]>;

    /// Goes to the next row and gives it.
    ///
    /// # Errors
    /// As [`Rows::advance`].
    fn next_row(&mut self) -> Result<Option<RunRow<'_>>, RunError> {
        Ok(if self.advance()? {
            Some((self.key(), self.value()))
        } else {
            None
        })
    }
}

impl<R: Rows + ?Sized> Rows for Box<R> {
    fn advance(&mut self) -> Result<bool, RunError> {
        (**self).advance()
    }

    fn key(&self) -> &[u8] {
        (**self).key()
    }

    fn value(&self) -> Option<&[u8]> {
        (**self).value()
    }
}
