//! Names and addresses: who a message is for, and which worker owns it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use compact_str::CompactString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use xxhash_rust::const_xxh3::xxh3_64 as const_xxh3_64;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A name that is not of the form `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a type name: write it as `namespace/name`, as in `example/greeter`")]
pub struct InvalidTypeName(pub String);

/// A name that nothing in this process has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a name in this application: no function, ingress or egress of it is called that"
)]
pub struct UnknownTypeName(pub String);

/// The name of a function type, ingress or egress: `namespace/name`.
///
/// Names are interned: a `TypeName` is a pointer, copied and compared as one. Interned names are never freed, so names
/// that come from outside are looked up among those that there are, and not interned: [`known`](Self::known) does so, and
/// so does reading one, or an [`Address`], from the bytes of a message or state.
#[derive(Clone, Copy)]
pub struct TypeName(&'static NameData);

/// It is read with every message by every worker. Were it to share a cache line with memory that is written, each write would
/// take the line away from the others; two lines, since processors fetch them in pairs.
#[repr(align(128))]
struct NameData {
    text: &'static str,
    slash: usize,
    function: FunctionTypeId,
    seed: u64,
    ordinal: u32,
}

/// The stable number of a function type: the low half of its name's hash, the same in every build and process.
///
/// Two functions of one application whose numbers collide are refused at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionTypeId(pub u32);

impl FunctionTypeId {
    /// The number of the function type of that name.
    pub const fn of(name: &str) -> Self {
        Self(const_xxh3_64(name.as_bytes()) as u32)
    }
}

/// The name of the message that reports an operation's end, before its arguments: `…<metadata,output>`.
pub(crate) const ASYNC_RESULT: &str = "io.statefun/AsyncResult";

/// The stable number of a message type: the hash of its type name, combined with those of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageTypeId(pub u64);

impl MessageTypeId {
    /// The number of the message type of that name.
    pub const fn of(name: &str) -> Self {
        Self(const_xxh3_64(name.as_bytes()))
    }

    /// The number of a message type whose name was read, the generic ones of the engine included.
    pub(crate) fn of_name(name: &str) -> Self {
        let generic = name
            .strip_prefix(ASYNC_RESULT)
            .and_then(|rest| rest.strip_prefix('<')?.strip_suffix('>'));
        let Some(arguments) = generic else {
            return Self::of(name);
        };
        let (mut id, mut depth, mut start) = (Self::of(ASYNC_RESULT), 0u32, 0);
        for (at, byte) in arguments.bytes().enumerate() {
            match byte {
                b'<' => depth += 1,
                b'>' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => {
                    id = id.combine(Self::of_name(arguments.get(start..at).unwrap_or_default()));
                    start = at + 1;
                }
                _ => {}
            }
        }
        id.combine(Self::of_name(arguments.get(start..).unwrap_or_default()))
    }

    /// The number of a generic message type, from its own name's and its arguments' numbers.
    pub(crate) const fn combine(self, other: Self) -> Self {
        let mixed = self.0.rotate_left(23) ^ other.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(mixed ^ (mixed >> 29))
    }
}

fn interned() -> &'static Mutex<HashMap<&'static str, TypeName>> {
    static NAMES: OnceLock<Mutex<HashMap<&'static str, TypeName>>> = OnceLock::new();
    NAMES.get_or_init(Mutex::default)
}

impl TypeName {
    /// Reads `namespace/name`; the namespace itself may hold dots and further slashes. For names that the program itself
    /// says: what comes from outside would stay in memory for ever, see [`known`](Self::known).
    pub fn parse(text: &str) -> Result<Self, InvalidTypeName> {
        let mut names = interned().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(text) {
            return Ok(*name);
        }
        let slash = text.rfind('/').filter(|at| *at > 0 && at + 1 < text.len());
        let (Some(slash), false) = (slash, text.contains(char::is_whitespace)) else {
            return Err(InvalidTypeName(text.to_owned()));
        };
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        let data = NameData {
            text,
            slash,
            function: FunctionTypeId::of(text),
            seed: const_xxh3_64(text.as_bytes()),
            ordinal: names.len() as u32,
        };
        let name = Self(Box::leak(Box::new(data)));
        names.insert(text, name);
        Ok(name)
    }

    /// The name, if it is interned already: what to do with names that come from outside.
    pub fn known(text: &str) -> Option<Self> {
        interned()
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(text)
            .copied()
    }

    /// The whole name, `namespace/name`.
    pub fn as_str(self) -> &'static str {
        self.0.text
    }

    /// What stands before the last slash.
    pub fn namespace(self) -> &'static str {
        &self.0.text[..self.0.slash]
    }

    /// Whether it is one of the engine's own, which is none of the application's.
    pub(crate) fn is_own(self) -> bool {
        self.namespace() == "io.statefun"
    }

    /// What stands behind the last slash.
    pub fn name(self) -> &'static str {
        &self.0.text[self.0.slash + 1..]
    }

    /// The stable number under which state of this function type is stored.
    pub fn function_type_id(self) -> FunctionTypeId {
        self.0.function
    }

    /// A small number of this name in this process only: an index, never to be stored.
    pub(crate) fn ordinal(self) -> usize {
        self.0.ordinal as usize
    }
}

/// The name that has this small number in this process.
pub(crate) fn name_of_ordinal(ordinal: usize) -> Option<TypeName> {
    let names = interned().lock().unwrap_or_else(PoisonError::into_inner);
    names
        .values()
        .find(|name| name.ordinal() == ordinal)
        .copied()
}

impl PartialEq for TypeName {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}
impl Eq for TypeName {}
impl std::hash::Hash for TypeName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.seed.hash(state);
    }
}
impl PartialOrd for TypeName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for TypeName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.text.cmp(other.0.text)
    }
}
impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.text)
    }
}
impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.text)
    }
}
impl Serialize for TypeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.text)
    }
}
impl<'de> Deserialize<'de> for TypeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = CompactString::deserialize(deserializer)?;
        Self::known(&text).ok_or_else(|| D::Error::custom(UnknownTypeName(text.into())))
    }
}

/// A type name that generated code interns once: `static NAME: LazyTypeName = LazyTypeName::new("example/greeter")`.
#[derive(Debug)]
pub struct LazyTypeName {
    text: &'static str,
    name: OnceLock<TypeName>,
}

impl LazyTypeName {
    /// A name that is interned at its first use. The macros have checked its form.
    pub const fn new(text: &'static str) -> Self {
        Self {
            text,
            name: OnceLock::new(),
        }
    }

    /// The interned name.
    ///
    /// # Panics
    /// When the text is not `namespace/name`, which the macros refuse at compile time.
    #[expect(
        clippy::expect_used,
        reason = "the text is a literal that the macros have checked"
    )]
    pub fn get(&self) -> TypeName {
        *self
            .name
            .get_or_init(|| TypeName::parse(self.text).expect("a type name is `namespace/name`"))
    }
}

/// One logical instance: a function type and an id. There is nothing to create before sending to it.
///
/// It may be part of messages and states. Reading one whose function type is not in this application is an error.
#[derive(Clone)]
pub struct Address {
    function: TypeName,
    id: CompactString,
    hash: u64,
}

impl Address {
    /// The address of the instance `id` of a function type.
    pub fn new(function: TypeName, id: impl Into<CompactString>) -> Self {
        let id = id.into();
        let hash = xxh3_64_with_seed(id.as_bytes(), function.0.seed);
        Self { function, id, hash }
    }

    /// The function type.
    pub fn function(&self) -> TypeName {
        self.function
    }

    /// The id within the function type.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// xxh3-64 of the id, seeded with xxh3-64 of the type name; computed once, when the address is made.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The key group that owns this address.
    pub fn key_group(&self, key_groups: KeyGroups) -> KeyGroup {
        key_groups.of_hash(self.hash)
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.function == other.function && self.id == other.id
    }
}
impl Eq for Address {}
impl std::hash::Hash for Address {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Address {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.function, &self.id).cmp(&(other.function, &other.id))
    }
}
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function, self.id)
    }
}
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function, self.id)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Address")]
struct AddressForm {
    function: TypeName,
    id: CompactString,
}
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        AddressForm {
            function: self.function,
            id: self.id.clone(),
        }
        .serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = AddressForm::deserialize(deserializer)?;
        Ok(Self::new(form.function, form.id))
    }
}

/// The number of a key group: the unit in which addresses are owned, moved and checkpointed.
pub type KeyGroup = u16;

/// How many key groups a data directory has: fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyGroups(u16);

impl Default for KeyGroups {
    fn default() -> Self {
        Self(1024)
    }
}

impl KeyGroups {
    /// So many key groups; at least one.
    pub fn new(count: u16) -> Self {
        Self(count.max(1))
    }

    /// How many there are.
    pub fn count(self) -> u16 {
        self.0
    }

    /// The key group of an address' hash.
    pub fn of_hash(self, hash: u64) -> KeyGroup {
        ((hash >> 32) % u64::from(self.0)) as u16
    }

    /// The worker that owns a key group: workers own contiguous ranges of nearly equal size.
    pub fn owner(self, group: KeyGroup, workers: usize) -> usize {
        usize::from(group) * workers / usize::from(self.0)
    }

    /// The key groups that a worker owns.
    pub fn range_of(self, worker: usize, workers: usize) -> std::ops::Range<u32> {
        let groups = usize::from(self.0);
        let first = |index: usize| (index * groups).div_ceil(workers) as u32;
        first(worker)..first(worker + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_interned_and_split_at_the_last_slash() {
        let name = TypeName::parse("io.statefun/a/b").unwrap();
        assert_eq!((name.namespace(), name.name()), ("io.statefun/a", "b"));
        assert_eq!(name, TypeName::parse("io.statefun/a/b").unwrap());
        for wrong in ["", "a", "/a", "a/", "a b/c", "a/b\n"] {
            assert!(TypeName::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_that_are_read_are_looked_up_and_never_interned() {
        let known = TypeName::parse("id-tests/known").unwrap();
        let address = Address::new(known, "a/b");
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        for name in ["id-tests/from-outside", "no name at all", ""] {
            let outside = json.replace("id-tests/known", name);
            let error = serde_json::from_str::<Address>(&outside).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("`{name}` is not a name in this application")),
                "{error}"
            );
            assert!(serde_json::from_str::<TypeName>(&format!("{name:?}")).is_err());
            assert_eq!(TypeName::known(name), None);
        }
    }

    #[test]
    fn every_key_group_lies_in_the_range_of_its_owner() {
        for count in [1, 7, 64, 1024, u16::MAX] {
            let groups = KeyGroups::new(count);
            for workers in 1..9 {
                for group in 0..count {
                    let owner = groups.owner(group, workers);
                    assert!(groups.range_of(owner, workers).contains(&u32::from(group)));
                }
            }
        }
    }
}
