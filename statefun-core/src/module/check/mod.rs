//! Proves the wiring before anything starts: between the documents of module.yaml, and against the code.
//!
//! Each file looks at one side of it. All of them work on facts that are well-formed: what is not has its finding from
//! [`Application::load`], and is passed over here so that it is not reported twice.

mod code;
mod connectors;
mod files;
mod http;
mod ids;
mod listen;
mod reach;
mod targets;
mod types;

use std::collections::BTreeSet;

pub use listen::{ReservedPort, check_reserved_ports};

use super::application::Application;
use super::description::{Description, FunctionDescription, RouterDescription};
use super::finding::{Finding, Findings};

/// The features of statefun-core that the application is built with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildFeatures(BTreeSet<String>);

impl BuildFeatures {
    /// Exactly these.
    pub fn of<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Those that an application says it was built with.
    pub fn of_application(description: &Description) -> Self {
        Self::of(description.features.iter().cloned())
    }

    /// Those of the statefun-core that runs now.
    pub fn compiled() -> Self {
        Self::of(COMPILED.iter().copied())
    }

    /// Whether a feature is among them.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// The features that wiring can need and that are compiled in.
const COMPILED: &[&str] = &[
    #[cfg(feature = "tls")]
    "tls",
];

/// Checks the wiring of an application.
///
/// Without a description only what module.yaml shows by itself is checked: whether functions, routers and egresses exist is
/// for the code to say. What the application was loaded with is not reported again; join both with [`Findings::and`].
pub fn check(
    application: &Application,
    description: Option<&Description>,
    features: &BuildFeatures,
) -> Findings {
    let mut checker = Checker {
        application,
        description,
        features,
        findings: Vec::new(),
    };
    ids::check(&mut checker);
    connectors::check(&mut checker);
    http::check(&mut checker);
    files::check(&mut checker);
    listen::check(&mut checker);
    if let Some(description) = description
        && code::version(&mut checker, description)
    {
        code::check(&mut checker, description);
        targets::check(&mut checker, description);
        types::check(&mut checker, description);
        reach::check(&mut checker, description);
    }
    Findings::new(checker.findings)
}

/// What all checks look at, and where they put what they find.
struct Checker<'a> {
    application: &'a Application,
    description: Option<&'a Description>,
    features: &'a BuildFeatures,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Whether a name that is not found may stand in a part of the files that cannot be read.
    fn may_be_hidden(&self, name: &str) -> bool {
        let opaque = &self.application.opaque;
        opaque.anything || opaque.mentions.contains(name)
    }
}

/// The function of that type.
fn function<'a>(description: &'a Description, typename: &str) -> Option<&'a FunctionDescription> {
    description
        .functions
        .iter()
        .find(|function| function.typename == typename)
}

/// The router of that name.
fn router<'a>(description: &'a Description, name: &str) -> Option<&'a RouterDescription> {
    description
        .routers
        .iter()
        .find(|router| router.name == name)
}
