//! Egress identifiers: typed constants that name where records leave the application.

use std::fmt;
use std::marker::PhantomData;

use xxhash_rust::const_xxh3::xxh3_64;

use crate::module::description::EgressUse;
use crate::sdk::message::Message;

/// An egress that takes records of type `M`.
///
/// ```
/// # use statefun_core::sdk::egress::EgressId;
/// const GREETINGS: EgressId<String> = EgressId::new("example/greetings");
/// # assert_eq!(GREETINGS.name(), "example/greetings");
/// ```
pub struct EgressId<M> {
    name: &'static str,
    hash: u64,
    message: PhantomData<fn(M)>,
}

impl<M: Message> EgressId<M> {
    /// The egress of that name, as `id` in module.yaml has it.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            hash: xxh3_64(name.as_bytes()),
            message: PhantomData,
        }
    }

    /// `namespace/name`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// What a function's description says of its use.
    #[doc(hidden)]
    pub fn used(&self) -> EgressUse {
        EgressUse {
            id: self.name.to_owned(),
            message: M::type_name().to_owned(),
            format: M::FORMAT,
        }
    }
}

impl<M> Clone for EgressId<M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M> Copy for EgressId<M> {}
impl<M> fmt::Debug for EgressId<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EgressId").field(&self.name).finish()
    }
}

/// The hash under which an egress is looked up at run time.
pub(crate) const fn egress_hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}
