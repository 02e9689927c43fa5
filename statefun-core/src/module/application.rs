//! An application as its module.yaml files describe it: the typed components with their places.

mod load;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::finding::Findings;
use super::lower::Fact;
use super::model::{Family, GlobalConfiguration, KindInfo, Spec, check_qualified};
use super::schema::Role;
use super::source::{Environment, FileId, Node, Source, Sources, Span, Value, Variable};

/// All modules of an application.
#[derive(Default)]
pub struct Application {
    pub(crate) sources: Sources,
    pub(crate) components: Vec<Component>,
    pub(crate) global: GlobalConfiguration,
    pub(crate) variables: BTreeSet<Variable>,
    /// Documents whose meaning is not known.
    pub(crate) opaque: Opaque,
}

/// One document that declares a component.
pub struct Component {
    /// Its kind.
    pub kind: &'static KindInfo,
    /// The typed spec; None when findings keep it from being made.
    pub spec: Option<Spec>,
    /// The whole document.
    pub span: Span,
    /// Where the kind stands.
    pub kind_span: Span,
    /// The value of `spec`, with places.
    pub(crate) tree: Node,
    pub(crate) facts: Vec<Fact>,
    pub(crate) present: BTreeSet<String>,
}

/// What is left of documents that cannot be read: enough to keep their mistakes from being reported again elsewhere.
#[derive(Default)]
pub(crate) struct Opaque {
    /// All texts in them.
    pub(crate) mentions: BTreeSet<String>,
    /// Patterns of functions that endpoints serve: `ns/*` or `ns/name`.
    pub(crate) endpoints: Vec<String>,
    /// Whether something may hide any number of components: a syntax error, an unreadable file.
    pub(crate) anything: bool,
    /// Whether an ingress has an id that cannot be read.
    pub(crate) some_ingress: bool,
    /// Whether an egress has an id that cannot be read.
    pub(crate) some_egress: bool,
    /// Whether what is found leaves the wiring uncertain, so that nothing is called unused.
    pub(crate) uncertain: bool,
}

impl fmt::Debug for Application {
    /// Without texts and values that may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("sources", &self.sources)
            .field("components", &self.components)
            .field("global", &self.global)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Component {
    /// Without values that may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("kind", &self.kind.name)
            .field("spec", &self.spec)
            .field("span", &self.span)
            .finish_non_exhaustive()
    }
}

impl Component {
    /// The id with its place, when it is well-formed. The place of a fixed id is that of the kind.
    pub fn id(&self) -> Option<(&str, Span)> {
        if let Some(fixed) = self.kind.fixed_id {
            return Some((fixed, self.kind_span));
        }
        self.facts
            .iter()
            .find(|fact| fact.role == Role::Id)
            .map(|fact| (fact.name.as_str(), fact.span))
    }

    /// Which module it stands in.
    pub fn file(&self) -> FileId {
        self.span.file
    }

    /// Where a value stands, by its path in the spec: `targets[0]`, `idempotency.retention`.
    pub fn span_of(&self, path: &str) -> Option<Span> {
        self.tree.at(path).map(|node| node.span)
    }

    /// Where the key of a field at the top of the spec stands.
    pub(crate) fn key_span(&self, field: &str) -> Option<Span> {
        self.tree.entry(field).map(|entry| entry.key_span)
    }

    /// Where a field stands, key and value; the kind's place when it is absent.
    pub(crate) fn field_span(&self, field: &str) -> Span {
        self.tree
            .entry(field)
            .map_or(self.kind_span, |entry| entry.key_span.to(entry.value.span))
    }

    /// Whether a field stands there, well-formed or not.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.present.contains(path)
    }

    /// Whether a list stands there, or may stand there, that is not known in full.
    pub(crate) fn unclear(&self, path: &str) -> bool {
        if !self.has(path) {
            return false;
        }
        let Some(node) = self.tree.at(path) else {
            return true;
        };
        let prefix = format!("{path}[");
        let readable = self
            .facts
            .iter()
            .filter(|fact| fact.path.starts_with(&prefix))
            .count();
        !matches!(node.value, Value::List(_)) || node.items().len() != readable
    }

    /// The names of one role in the spec.
    pub(crate) fn facts(&self, role: Role) -> impl Iterator<Item = &Fact> {
        self.facts.iter().filter(move |fact| fact.role == role)
    }

    /// The id as written, for messages; empty when it has none.
    pub(crate) fn shown_id(&self) -> &str {
        self.facts
            .iter()
            .find(|fact| fact.role == Role::Id)
            .map(|fact| fact.shown.as_str())
            .or(self.kind.fixed_id)
            .unwrap_or_default()
    }

    /// What to call it in messages.
    pub(crate) fn title(&self) -> String {
        let what = match self.kind.family {
            Family::Ingress => "ingress",
            Family::Egress => "egress",
            Family::Endpoint => "endpoint",
            Family::Configuration => "configuration",
        };
        match self.shown_id() {
            "" => format!("this {what}"),
            id => format!("{what} `{id}`"),
        }
    }
}

impl Application {
    /// Reads the modules of an application. What is wrong with one of them by itself is among the findings; what is wrong
    /// between them is for [`check`](super::check()) to find.
    pub fn load(
        sources: impl IntoIterator<Item = Source>,
        environment: &Environment,
    ) -> (Self, Findings) {
        load::load(sources, environment)
    }

    /// Reads module.yaml files, with the environment of this process.
    pub fn load_files<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> (Self, Findings) {
        let sources = paths.into_iter().map(Source::file).collect::<Vec<_>>();
        Self::load(sources, &Environment::process())
    }

    /// The files, which rendering findings needs.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// All components, by file and place.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// The typed specs of all components that have one, by file and place.
    pub fn specs(&self) -> impl Iterator<Item = &Spec> {
        self.components
            .iter()
            .filter_map(|component| component.spec.as_ref())
    }

    /// The configuration of all modules together.
    pub fn global_configuration(&self) -> &GlobalConfiguration {
        &self.global
    }

    /// The variables of the environment that the files refer to, set or not, by name.
    pub fn variables(&self) -> &BTreeSet<Variable> {
        &self.variables
    }

    /// The components of one family.
    pub(crate) fn family(&self, family: Family) -> impl Iterator<Item = &Component> {
        self.components
            .iter()
            .filter(move |component| component.kind.family == family)
    }
}

/// Whether a function type is served by one of the endpoint patterns.
pub(crate) fn served_by(patterns: &[String], function: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix("/*") {
            Some(namespace) => function
                .rsplit_once('/')
                .is_some_and(|(of, _)| of == namespace),
            None => pattern == function && check_qualified(pattern).is_ok(),
        })
}
