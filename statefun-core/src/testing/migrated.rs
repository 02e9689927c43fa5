//! Migrations of state, tested on a value at a time.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::sdk::state::{Forms, RowValue, encode_row};
use crate::shape::Shaped;

/// What became of a value of an earlier version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MigrateError {
    /// The type does not name the earlier one, nor does any type that it migrates from.
    #[error(
        "`{now}` does not migrate from `{former}`: name it with `migrate_from`, here or at a version in between"
    )]
    Unrelated {
        /// The earlier type.
        former: &'static str,
        /// The type that was asked for.
        now: &'static str,
    },
    /// The value cannot be written, so no row holds it.
    #[error("the value of the earlier version cannot be written: {0}")]
    Unwritable(String),
    /// The migration refuses the value, or panics. In production its address would be parked, with this reason.
    #[error("{0}")]
    Failed(String),
}

/// What a stored value of an earlier version reads as: it is written to a row as the code of that version did, and read back
/// as the code of now does, through all versions in between.
///
/// ```
/// use statefun_core::prelude::*;
/// use statefun_core::testing::migrated;
///
/// /// As it was: the text had a currency in it.
/// #[persisted]
/// struct PriceV1 { amount: String }
///
/// #[persisted(version = 2, migrate_from = PriceV1)]
/// #[derive(Debug, PartialEq)]
/// struct Price { cents: u64 }
///
/// impl TryFrom<PriceV1> for Price {
///     type Error = std::num::ParseIntError;
///
///     fn try_from(old: PriceV1) -> Result<Self, Self::Error> {
///         Ok(Self { cents: old.amount.trim_end_matches(" ct").parse()? })
///     }
/// }
///
/// let old = |amount: &str| PriceV1 { amount: amount.to_owned() };
/// assert_eq!(migrated::<Price, _>(&old("250 ct")), Ok(Price { cents: 250 }));
/// let refused = migrated::<Price, _>(&old("much")).unwrap_err();
/// assert!(refused.to_string().ends_with("invalid digit found in string"));
/// ```
///
/// # Errors
/// When there is no migration, or it refuses the value.
pub fn migrated<T, Former>(former: &Former) -> Result<T, MigrateError>
where
    T: Shaped + DeserializeOwned,
    Former: Shaped + Serialize,
{
    let written = Forms::of(Former::shape(), Former::versions());
    let read = Forms::of(T::shape(), T::versions());
    if !read.knows(written.schema) {
        return Err(MigrateError::Unrelated {
            former: std::any::type_name::<Former>(),
            now: std::any::type_name::<T>(),
        });
    }
    let row = encode_row(former, written.schema, 0).map_err(MigrateError::Unwritable)?;
    let row = RowValue::parse(&row)
        .ok_or_else(|| MigrateError::Unwritable("the row is too short".to_owned()))?;
    read.decode(row).map_err(MigrateError::Failed)
}
