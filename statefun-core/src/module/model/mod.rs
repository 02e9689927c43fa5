//! The typed specs of all kinds of components, a file per connector family.

pub mod configuration;
pub mod file;
pub mod http;
mod kinds;
mod names;
mod parts;
pub mod playground;
pub mod stdio;

pub use configuration::{Configuration, GlobalConfiguration};
pub use file::{Csv, Delimiter, FileEgress, FileFormat, FileIngress, RecordKey, StartupPosition};
pub use http::{
    Headers, HttpAuth, HttpEgress, HttpIngress, HttpMethod, Idempotency, PathSegment, PathTemplate,
    RequestPart, Retry, Tls, WebhookKey,
};
pub use kinds::{Availability, Family, KINDS, KindInfo, kind};
pub use names::{
    ComponentId, EgressId, FieldName, FunctionType, HeaderName, HttpUrl, JsonPointer,
    ListenAddress, RouterName, ValueType,
};
pub(crate) use names::{check_plain, check_qualified};
pub use parts::{JsonFormat, OnError, PointerKey, Secret};
pub use playground::{PLAYGROUND_EGRESS, PLAYGROUND_EGRESS_RECORD, PLAYGROUND_INGRESS};
pub use playground::{PlaygroundEgress, PlaygroundIngress};
pub use stdio::{StdioEgress, StdioIngress};

/// The spec of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// `io.statefun.http.v1/ingress`.
    HttpIngress(HttpIngress),
    /// `io.statefun.http.v1/egress`.
    HttpEgress(HttpEgress),
    /// `io.statefun.file.v1/ingress`.
    FileIngress(FileIngress),
    /// `io.statefun.file.v1/egress`.
    FileEgress(FileEgress),
    /// `io.statefun.stdio.v1/ingress`.
    StdioIngress(StdioIngress),
    /// `io.statefun.stdio.v1/egress`.
    StdioEgress(StdioEgress),
    /// `io.statefun.playground.v1/ingress`.
    PlaygroundIngress(PlaygroundIngress),
    /// `io.statefun.playground.v1/egress`.
    PlaygroundEgress(PlaygroundEgress),
    /// `io.statefun.module.v1/configuration`.
    Configuration(Configuration),
}

impl Spec {
    /// The id of the ingress or egress; the playground's are fixed, configurations have none.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::HttpIngress(spec) => Some(spec.id.as_str()),
            Self::HttpEgress(spec) => Some(spec.id.as_str()),
            Self::FileIngress(spec) => Some(spec.id.as_str()),
            Self::FileEgress(spec) => Some(spec.id.as_str()),
            Self::StdioIngress(spec) => Some(spec.id.as_str()),
            Self::StdioEgress(spec) => Some(spec.id.as_str()),
            Self::PlaygroundIngress(_) => Some(PLAYGROUND_INGRESS),
            Self::PlaygroundEgress(_) => Some(PLAYGROUND_EGRESS),
            Self::Configuration(_) => None,
        }
    }

    /// The function types that get every message of the ingress.
    pub fn targets(&self) -> &[FunctionType] {
        match self {
            Self::HttpIngress(spec) => &spec.targets,
            Self::FileIngress(spec) => &spec.targets,
            Self::StdioIngress(spec) => &spec.targets,
            _ => &[],
        }
    }

    /// The routers that see every message of the ingress.
    pub fn routers(&self) -> &[RouterName] {
        match self {
            Self::HttpIngress(spec) => &spec.routers,
            Self::FileIngress(spec) => &spec.routers,
            Self::StdioIngress(spec) => &spec.routers,
            _ => &[],
        }
    }

    /// What becomes of what cannot be decoded or routed; None for what takes nothing in.
    pub fn on_error(&self) -> Option<&OnError> {
        match self {
            Self::HttpIngress(spec) => Some(&spec.on_error),
            Self::FileIngress(spec) => Some(&spec.on_error),
            Self::StdioIngress(spec) => Some(&spec.on_error),
            _ => None,
        }
    }

    /// The egress that takes what cannot be decoded or delivered, if there is one.
    pub fn dead_letter(&self) -> Option<&EgressId> {
        match self {
            Self::HttpIngress(spec) => spec.on_error.dead_letter(),
            Self::FileIngress(spec) => spec.on_error.dead_letter(),
            Self::StdioIngress(spec) => spec.on_error.dead_letter(),
            Self::HttpEgress(spec) => spec.dead_letter.as_ref(),
            _ => None,
        }
    }

    /// The types of the values that the ingress takes in. Empty where the sender names them.
    pub fn value_types(&self) -> &[ValueType] {
        match self {
            Self::HttpIngress(spec) => spec.value_types(),
            Self::FileIngress(spec) => std::slice::from_ref(&spec.value_type),
            Self::StdioIngress(spec) => std::slice::from_ref(&spec.value_type),
            _ => &[],
        }
    }
}
