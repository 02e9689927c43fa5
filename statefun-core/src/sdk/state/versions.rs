//! Versions of a state type: which type a stored row is read as, and what makes it one of today's.
//!
//! Every row carries the number of the form that it was written in, its schema id. A row of today's form is decoded at
//! once. For any other, what picks the type is, in this order:
//!
//! 1. the form that the catalog has recorded under the row's number: its version's type among those that the code has,
//!    which must read the recorded shape (fields may have been added to it since that are optional or defaulted); where the
//!    code has no type of that version, the type of the next version after it, if that reads the recorded shape: it followed
//!    without a migration, and any later one may mean something else by the same fields;
//! 2. the type among the code's whose own number it is: where there is no catalog, as in tests;
//! 3. for rows that are older than all that the catalog has recorded: the type that reads the oldest of the recorded forms,
//!    since nothing that it could not read was ever let pass.
//!
//! Rows that no version reads are an error, and never a guess. A start refuses code that leaves such rows behind.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::catalog::FormerShape;
use crate::module::description::{Expiration, StateDescription, StateKind};
use crate::sdk::caught::caught;
use crate::sdk::state::{RowBytes, RowContent, RowValue, decode_value, schema_id, state_id};
use crate::shape::compat::{Incompatible, reads};
use crate::shape::{FIRST_VERSION, Shape, Shaped};

/// A type that a row of `Former` becomes: what `migrate_from = Former` asks for.
///
/// It follows from the standard library's conversions, so there is nothing to learn and nothing to import: `impl From<CartV1>
/// for Cart` where every old value has a new one, `impl TryFrom<CartV1> for Cart` where some have not. The error is shown to
/// the operator with the address, and so has to be `Display`.
#[diagnostic::on_unimplemented(
    message = "there is no migration from `{Former}` to `{Self}`",
    label = "no way from this version to the next",
    note = "write `impl From<{Former}> for {Self}`, or `impl TryFrom<{Former}> for {Self}` with an error that is `Display` where it may fail"
)]
#[doc(hidden)]
pub trait MigratesFrom<Former>: Sized {
    /// Converts a value of the version before.
    fn migrate(former: Former) -> Result<Self, String>;
}

#[diagnostic::do_not_recommend]
impl<T, Former> MigratesFrom<Former> for T
where
    T: TryFrom<Former>,
    T::Error: fmt::Display,
{
    fn migrate(former: Former) -> Result<Self, String> {
        caught("its migration", || Self::try_from(former))?.map_err(|error| error.to_string())
    }
}

/// A type that `migrate_from` names.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no state type, so no row is read as it",
    label = "not a state type",
    note = "write `#[persisted]` above it, as when it was the current version"
)]
#[doc(hidden)]
pub trait FormerVersion: Sized + 'static {
    /// Its version.
    const NUMBER: u32;
    /// Its shape.
    fn former_shape() -> Shape;
    /// The versions before it.
    fn former_versions() -> Versions<Self>;
    /// Reads a row of it.
    fn read(payload: &[u8]) -> Result<Self, String>;
}

#[diagnostic::do_not_recommend]
impl<T: Shaped + DeserializeOwned> FormerVersion for T {
    const NUMBER: u32 = T::VERSION;

    fn former_shape() -> Shape {
        T::shape()
    }
    fn former_versions() -> Versions<Self> {
        T::versions()
    }
    fn read(payload: &[u8]) -> Result<Self, String> {
        decode_value(payload).map_err(|problem| {
            format!(
                "it does not read as `{}` of version {}: {problem}",
                short_name::<T>(),
                T::VERSION
            )
        })
    }
}

type Read<T> = Arc<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

/// The versions of a type: its own number, and how rows of those before it become values of it.
#[doc(hidden)]
pub struct Versions<T> {
    version: u32,
    /// Newest first.
    former: Vec<(Form, Read<T>)>,
}

/// A version of a state type that the code has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) version: u32,
    /// Its name in the code.
    pub(crate) name: String,
    pub(crate) shape: Shape,
}

/// A type's name without its path.
fn short_name<T>() -> String {
    let name = std::any::type_name::<T>();
    let end = name.find('<').unwrap_or(name.len());
    let start = name[..end].rfind("::").map_or(0, |at| at + 2);
    name[start..].to_owned()
}

impl<T: 'static> Versions<T> {
    /// Those of a type of which nothing is said.
    pub fn undeclared() -> Self {
        Self::declared(FIRST_VERSION)
    }

    /// A version, and so far none before it.
    pub fn declared(version: u32) -> Self {
        Self {
            version,
            former: Vec::new(),
        }
    }

    /// Reads the rows of `Former`, and of all versions before it.
    #[must_use]
    pub fn migrate_from<Former>(mut self) -> Self
    where
        Former: FormerVersion,
        T: MigratesFrom<Former>,
    {
        let version = self.version;
        let step = move |former: Former| {
            T::migrate(former).map_err(|problem| {
                format!(
                    "it does not migrate from version {} (`{}`) to {version} (`{}`): {problem}",
                    Former::NUMBER,
                    short_name::<Former>(),
                    short_name::<T>(),
                )
            })
        };
        let form = Form {
            version: Former::NUMBER,
            name: short_name::<Former>(),
            shape: Former::former_shape(),
        };
        self.former
            .push((form, Arc::new(move |bytes| step(Former::read(bytes)?))));
        for (form, read) in Former::former_versions().former {
            self.former
                .push((form, Arc::new(move |bytes| step(read(bytes)?))));
        }
        self
    }
}

impl<T> fmt::Debug for Versions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The answer of [`ShapeProbe`](crate::shape::ShapeProbe) for types that say nothing of their versions.
#[doc(hidden)]
pub trait Unversioned<T>: Sized {
    /// One version, the first.
    fn versions(self) -> Versions<T>;
}

impl<T: 'static> Unversioned<T> for crate::shape::ShapeProbe<T> {
    fn versions(self) -> Versions<T> {
        Versions::undeclared()
    }
}

/// Why none of the code's versions reads a recorded form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The type of its version does not.
    Changed { name: String, problem: Incompatible },
    /// It is of a later version than all that the code has.
    Later {
        /// The code's latest.
        latest: u32,
    },
    /// The type of its version is gone, and those after it read something else.
    Gone,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { name, problem } => write!(f, "`{name}` does not read it: {problem}"),
            Self::Later { latest } => write!(f, "the latest that this code has is {latest}"),
            Self::Gone => f.write_str("this code has no migration from it"),
        }
    }
}

/// The place of the version that reads a recorded form, among the code's: the current one first, then older and older ones.
pub(crate) fn choose(forms: &[Form], version: u32, shape: &Shape) -> Result<usize, Unread> {
    let mut all = forms.iter().enumerate();
    if let Some((place, form)) = all.clone().find(|(_, form)| form.version == version) {
        return match reads(shape, &form.shape) {
            Ok(()) => Ok(place),
            Err(problem) => Err(Unread::Changed {
                name: form.name.clone(),
                problem,
            }),
        };
    }
    let latest = forms.first().map_or(FIRST_VERSION, |form| form.version);
    if version > latest {
        return Err(Unread::Later { latest });
    }
    let next = all.rfind(|(_, form)| form.version > version);
    next.filter(|(_, next)| reads(shape, &next.shape).is_ok())
        .map(|(place, _)| place)
        .ok_or(Unread::Gone)
}

/// How the rows of one state are read: its forms, and which of them a row's schema id stands for.
#[doc(hidden)]
#[derive(Clone)]
pub struct Forms {
    /// The number of the current form.
    pub(crate) schema: u32,
    /// The current one first.
    forms: Arc<[Form]>,
    /// Other numbers than the current one.
    known: Vec<(u32, Choice)>,
    /// For numbers that nobody knows.
    oldest: Choice,
    /// The [`Versions`] of the state's type.
    versions: Arc<dyn Any + Send + Sync>,
}

#[derive(Debug, Clone)]
enum Choice {
    /// As the current type.
    Current,
    /// As the type at that place among the former ones.
    Former(usize),
    /// Not at all.
    Never(String),
}

impl fmt::Debug for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forms")
            .field("schema", &self.schema)
            .field("forms", &self.forms)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// What a row is to the code that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is of the current form.
    Current,
    /// It reads as the current type, though fields were added or the like since it was written.
    Compatible,
    /// It is converted when it is read.
    Migrated {
        /// From that version.
        from: u32,
    },
}

impl Forms {
    /// The forms of a type with that shape.
    pub(crate) fn of<T: 'static>(shape: Shape, versions: Versions<T>) -> Self {
        let schema = schema_id(&shape, versions.version);
        let current = Form {
            version: versions.version,
            name: short_name::<T>(),
            shape,
        };
        let former = versions.former.iter().map(|(form, _)| form);
        let known = former
            .clone()
            .enumerate()
            .map(|(place, form)| {
                let schema = schema_id(&form.shape, form.version);
                (schema, Choice::Former(place))
            })
            .collect();
        Self {
            schema,
            forms: std::iter::once(&current).chain(former).cloned().collect(),
            known,
            oldest: Choice::Current,
            versions: Arc::new(versions),
        }
    }

    /// The versions that the code has: the current one, then older and older ones.
    pub(crate) fn list(&self) -> &[Form] {
        &self.forms
    }

    /// The current version.
    pub(crate) fn version(&self) -> u32 {
        self.forms
            .first()
            .map_or(FIRST_VERSION, |form| form.version)
    }

    /// Takes over what the data has recorded: schema ids with the version and the shape that they stand for, oldest first.
    pub(crate) fn learn<'a>(&mut self, recorded: impl IntoIterator<Item = (u32, u32, &'a Shape)>) {
        let mut oldest: Option<(u32, Choice)> = None;
        for (schema, version, shape) in recorded {
            let choice = if schema == self.schema {
                Choice::Current
            } else {
                match choose(&self.forms, version, shape) {
                    Ok(0) => Choice::Current,
                    Ok(place) => Choice::Former(place - 1),
                    Err(unread) => {
                        Choice::Never(format!("it is of version {version}, and {unread}"))
                    }
                }
            };
            if oldest.as_ref().is_none_or(|(first, _)| version < *first) {
                oldest = Some((version, choice.clone()));
            }
            if schema != self.schema {
                self.known.retain(|(known, _)| *known != schema);
                self.known.push((schema, choice));
            }
        }
        if let Some((_, choice)) = oldest {
            self.oldest = choice;
        }
    }

    /// The value of a row. Almost all rows are of the current form; for the others there is a way of its own.
    #[inline]
    pub(crate) fn decode<T: DeserializeOwned + 'static>(
        &self,
        row: RowValue<'_>,
    ) -> Result<T, String> {
        if row.schema == self.schema {
            decode_value(row.payload)
        } else {
            self.decode_other(row)
        }
    }

    #[cold]
    #[inline(never)]
    fn decode_other<T: DeserializeOwned + 'static>(&self, row: RowValue<'_>) -> Result<T, String> {
        match self.choice(row.schema) {
            Choice::Current => decode_value(row.payload),
            Choice::Former(place) => {
                let versions = self.versions.downcast_ref::<Versions<T>>();
                match versions.and_then(|versions| versions.former.get(*place)) {
                    Some((_, read)) => read(row.payload),
                    None => decode_value(row.payload),
                }
            }
            Choice::Never(problem) => Err(problem.clone()),
        }
    }

    /// Whether that is the number of a form that the code has, or that was learnt.
    pub(crate) fn knows(&self, schema: u32) -> bool {
        schema == self.schema || self.known.iter().any(|(known, _)| *known == schema)
    }

    fn choice(&self, schema: u32) -> &Choice {
        self.known
            .iter()
            .find(|(known, _)| *known == schema)
            .map_or(&self.oldest, |(_, choice)| choice)
    }

    /// What a row of that schema id is to the code.
    pub(crate) fn outcome(&self, schema: u32) -> Outcome {
        if schema == self.schema {
            return Outcome::Current;
        }
        match self.choice(schema) {
            Choice::Former(place) => Outcome::Migrated {
                from: self
                    .forms
                    .get(place + 1)
                    .map_or(FIRST_VERSION, |form| form.version),
            },
            Choice::Current | Choice::Never(_) => Outcome::Compatible,
        }
    }
}

/// All that is declared of a state, and how its rows are read.
#[derive(Debug, Clone)]
pub struct StateDefinition {
    /// What is declared of it.
    pub description: StateDescription,
    #[doc(hidden)]
    pub forms: Forms,
    check: CheckRow,
}

/// Reads a row of a kind of state, without anything to show for it.
type CheckRow = fn(RowBytes<'_>, &[u8]) -> Result<RowContent, String>;

impl StateDefinition {
    /// What the macro makes of a field. `check` is its kind's: the compiler then says once, at the field, that it is none.
    #[doc(hidden)]
    pub fn of<T: 'static>(
        name: &str,
        kind: StateKind,
        shape: Shape,
        key_shape: Shape,
        expiration: Expiration,
        versions: Versions<T>,
        check: CheckRow,
    ) -> Self {
        Self {
            description: StateDescription {
                name: name.to_owned(),
                kind,
                version: versions.version,
                shape: shape.clone(),
                key_shape: (kind == StateKind::Table).then_some(key_shape),
                expiration,
            },
            forms: Forms::of(shape, versions),
            check,
        }
    }

    /// The stable number of the state within its function.
    pub(crate) fn number(&self) -> u32 {
        state_id(&self.description.name)
    }

    /// Takes over which forms the state's rows have, oldest first.
    pub(crate) fn learn(&mut self, recorded: &[FormerShape]) {
        let recorded = recorded.iter();
        self.forms
            .learn(recorded.map(|form| (form.schema, form.version, &form.shape)));
    }

    /// Reads a row of the state as an invocation would, `rest` is what its key has behind the state's number.
    /// What it was to the code; none where it is no value of the state's type.
    pub(crate) fn check_row(&self, rest: &[u8], value: &[u8]) -> Result<Option<Outcome>, String> {
        let row = RowValue::parse(value).ok_or("the row is too short")?;
        let content = (self.check)(RowBytes(row, &self.forms), rest)?;
        Ok((content == RowContent::Value).then(|| self.forms.outcome(row.schema)))
    }
}

impl std::ops::Deref for StateDefinition {
    type Target = StateDescription;

    fn deref(&self) -> &StateDescription {
        &self.description
    }
}

#[cfg(test)]
mod tests;
