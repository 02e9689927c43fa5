//! All kinds that module.yaml may name.

use super::playground::{PLAYGROUND_EGRESS, PLAYGROUND_INGRESS};
use super::{
    Configuration, FileEgress, FileIngress, HttpEgress, HttpIngress, PlaygroundEgress,
    PlaygroundIngress, Spec, StdioEgress, StdioIngress,
};
use crate::module::schema::Record;

/// One kind of component.
#[derive(Debug)]
pub struct KindInfo {
    /// As written in `kind`.
    pub name: &'static str,
    /// What such a component is.
    pub family: Family,
    /// Whether this version has it.
    pub availability: Availability,
    /// The id that each component of this kind has; None where the spec says it.
    pub fixed_id: Option<&'static str>,
}

/// What a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Takes messages in.
    Ingress,
    /// Lets records out.
    Egress,
    /// Serves functions elsewhere.
    Endpoint,
    /// Adds to the configuration.
    Configuration,
}

/// Whether this version has a kind.
#[derive(Debug)]
pub enum Availability {
    /// It has.
    Ready {
        /// The fields of the spec.
        record: &'static Record,
        /// Reads the spec.
        read: fn(serde_yaml::Value) -> Result<Spec, serde_yaml::Error>,
        /// The feature of statefun-core that it needs.
        feature: Option<&'static str>,
    },
    /// It does not have it yet; what to use meanwhile.
    NotYet {
        /// A sentence.
        instead: &'static str,
    },
}

macro_rules! ready {
    ($name:literal, $family:ident, $spec:ident) => {
        ready!($name, $family, $spec, None)
    };
    ($name:literal, $family:ident, $spec:ident, $id:expr) => {
        KindInfo {
            name: $name,
            family: Family::$family,
            availability: Availability::Ready {
                record: &$spec::RECORD,
                read: |value| serde_yaml::from_value(value).map(Spec::$spec),
                feature: None,
            },
            fixed_id: $id,
        }
    };
}

const fn not_yet(name: &'static str, family: Family, instead: &'static str) -> KindInfo {
    KindInfo {
        name,
        family,
        availability: Availability::NotYet { instead },
        fixed_id: None,
    }
}

const REMOTE: &str = "functions in Rust need no endpoint: they are part of the application";
const INGRESS: &str = "`io.statefun.http.v1/ingress`, `io.statefun.file.v1/ingress` and `io.statefun.stdio.v1/ingress` take messages in";
const EGRESS: &str = "`io.statefun.http.v1/egress`, `io.statefun.file.v1/egress` and `io.statefun.stdio.v1/egress` let records out";

/// All kinds, those included that this version does not have yet.
pub static KINDS: &[KindInfo] = &[
    ready!("io.statefun.http.v1/ingress", Ingress, HttpIngress),
    ready!("io.statefun.http.v1/egress", Egress, HttpEgress),
    ready!("io.statefun.file.v1/ingress", Ingress, FileIngress),
    ready!("io.statefun.file.v1/egress", Egress, FileEgress),
    ready!("io.statefun.stdio.v1/ingress", Ingress, StdioIngress),
    ready!("io.statefun.stdio.v1/egress", Egress, StdioEgress),
    ready!(
        "io.statefun.playground.v1/ingress",
        Ingress,
        PlaygroundIngress,
        Some(PLAYGROUND_INGRESS)
    ),
    ready!(
        "io.statefun.playground.v1/egress",
        Egress,
        PlaygroundEgress,
        Some(PLAYGROUND_EGRESS)
    ),
    ready!(
        "io.statefun.module.v1/configuration",
        Configuration,
        Configuration
    ),
    not_yet("io.statefun.endpoints.v2/http", Family::Endpoint, REMOTE),
    not_yet("io.statefun.endpoints.v1/http", Family::Endpoint, REMOTE),
    not_yet("io.statefun.kafka.v1/ingress", Family::Ingress, INGRESS),
    not_yet("io.statefun.kafka.v1/egress", Family::Egress, EGRESS),
    not_yet("io.statefun.kinesis.v1/ingress", Family::Ingress, INGRESS),
    not_yet("io.statefun.kinesis.v1/egress", Family::Egress, EGRESS),
    not_yet("io.statefun.nats.v1/ingress", Family::Ingress, INGRESS),
    not_yet("io.statefun.nats.v1/egress", Family::Egress, EGRESS),
];

/// The kind of that name.
pub fn kind(name: &str) -> Option<&'static KindInfo> {
    KINDS.iter().find(|kind| kind.name == name)
}
