//! Reading the modules of an application, document by document.

use std::collections::BTreeMap;

use super::{Application, Component};
use crate::module::codes;
use crate::module::finding::{Finding, Findings};
use crate::module::lower::lower;
use crate::module::model::{Availability, Family, KINDS, KindInfo, Spec, kind};
use crate::module::schema::Record;
use crate::module::source::{
    Document, Entry, Environment, Node, Source, Span, Value, parse, secrets,
};
use crate::module::suggest::{did_you_mean, list, nearest};
use crate::module::traps;

/// Reads all modules, and collects what is wrong with each by itself.
pub(super) fn load(
    sources: impl IntoIterator<Item = Source>,
    environment: &Environment,
) -> (Application, Findings) {
    let mut loader = Loader {
        application: Application::default(),
        environment,
        findings: Vec::new(),
        configuration: BTreeMap::new(),
    };
    for source in sources {
        loader.source(source);
    }
    let mut application = loader.application;
    application.opaque.uncertain |= loader
        .findings
        .iter()
        .any(|finding| finding.code.hides_wiring);
    (application, Findings::new(loader.findings))
}
struct Loader<'a> {
    application: Application,
    environment: &'a Environment,
    findings: Vec<Finding>,
    /// Where each key of the configuration was set first.
    configuration: BTreeMap<String, (String, Span)>,
}

impl Loader<'_> {
    fn source(&mut self, source: Source) {
        let file = match source {
            Source::Text { name, text } => self.application.sources.add(name, text),
            Source::File(path) => {
                let name = path.display().to_string();
                match std::fs::read(&path).map(String::from_utf8) {
                    Ok(Ok(text)) => self.application.sources.add(name, text),
                    Ok(Err(_)) => {
                        return self.unreadable(&name, "it is not UTF-8 text", "save it as UTF-8");
                    }
                    Err(error) => {
                        let help = match error.kind() {
                            std::io::ErrorKind::NotFound => {
                                "check the path; the usual name is module.yaml"
                            }
                            std::io::ErrorKind::IsADirectory => "name the file in the directory",
                            _ => "see that it is a file and may be read",
                        };
                        return self.unreadable(&name, &error.to_string(), help);
                    }
                }
            }
        };
        // The text is cheap to copy, and the secrets in it are marked while its nodes are read.
        let Some(text) = self.application.sources.get(file).cloned() else {
            return;
        };
        let before = self.findings.len();
        let parsed = parse(file, &text, self.environment, &mut self.findings);
        self.application.variables.extend(parsed.variables);
        if parsed.truncated {
            self.application.opaque.anything = true;
            self.hide(secrets::in_lines(file, &text));
        }
        if parsed.documents.is_empty() && self.findings.len() == before {
            self.findings.push(
                Finding::new(
                    codes::NO_DOCUMENT,
                    format!("{} declares nothing", text.name()),
                )
                .help("a component is a document with `kind` and `spec`"),
            );
        }
        for document in parsed.documents {
            self.document(document);
        }
    }

    fn unreadable(&mut self, name: &str, why: &str, help: &str) {
        self.application.opaque.anything = true;
        self.findings.push(
            Finding::new(codes::UNREADABLE_FILE, format!("cannot read {name}: {why}")).help(help),
        );
    }

    fn document(&mut self, document: Document) {
        let root = document.root;
        self.hide(secrets::in_tree(&root));
        let Some((info, kind_span)) = self.known_kind(&root) else {
            // It may be an ingress or an egress, and have any id.
            let unnamed = root.at("spec.id").and_then(Node::scalar).is_none();
            self.application.opaque.some_ingress |= unnamed;
            self.application.opaque.some_egress |= unnamed;
            return self.set_aside(&root);
        };
        self.extra_keys(&root);
        match &info.availability {
            Availability::NotYet { instead } => {
                self.findings.push(
                    Finding::new(
                        codes::UNAVAILABLE_KIND,
                        format!(
                            "`{}` is a known kind, but this version has no connector for it yet",
                            info.name
                        ),
                    )
                    .at(kind_span, "not available")
                    .help(*instead),
                );
                traps::look(info, &root, &mut self.findings);
                if info.family == Family::Endpoint
                    && let Some(functions) = root.at("spec.functions").and_then(Node::scalar)
                {
                    self.application
                        .opaque
                        .endpoints
                        .push(functions.text.clone());
                }
                self.set_aside(&root);
            }
            Availability::Ready { record, .. } => {
                if let Some(spec) = spec_of(&root, record) {
                    self.component(&root, spec, info, kind_span);
                } else {
                    self.no_spec(&root, kind_span);
                    self.unnamed(info.family);
                    self.set_aside(&root);
                }
            }
        }
    }

    /// The kind that a document names, or a finding that says why it names none.
    fn known_kind(&mut self, root: &Node) -> Option<(&'static KindInfo, Span)> {
        if !matches!(root.value, Value::Map(_)) {
            if !matches!(root.value, Value::Unreadable) {
                self.findings.push(
                    Finding::new(
                        codes::NOT_A_COMPONENT,
                        format!(
                            "a component is a map with `kind` and `spec`, and this is {}",
                            root.describe()
                        ),
                    )
                    .at(root.span, "not a component")
                    .help("begin with `kind: …` and `spec:`"),
                );
            }
            return None;
        }
        let node = self.kind_of(root)?;
        let scalar = match &node.value {
            Value::Scalar(scalar) => scalar,
            Value::Unreadable => return None,
            _ => {
                self.findings.push(
                    Finding::new(
                        codes::WRONG_TYPE,
                        format!("`kind` takes a name, and this is {}", node.describe()),
                    )
                    .at(node.span, "expected a name")
                    .help("write it as in `kind: io.statefun.http.v1/ingress`"),
                );
                return None;
            }
        };
        let info = kind(&scalar.text);
        if info.is_none() {
            let known = KINDS.iter().map(|kind| kind.name);
            let help = did_you_mean(&scalar.text, known)
                .unwrap_or_else(|| format!("kinds are {}", list(ready_kinds())));
            self.findings.push(
                Finding::new(
                    codes::UNKNOWN_KIND,
                    format!("there is no kind `{}`", scalar.shown()),
                )
                .at(node.span, "unknown kind")
                .help(help),
            );
        }
        Some((info?, node.span))
    }

    /// A component of a kind that this version has.
    fn component(&mut self, root: &Node, spec: Entry, info: &'static KindInfo, kind_span: Span) {
        let Availability::Ready { record, read, .. } = &info.availability else {
            return;
        };
        let lowered = lower(&spec.value, spec.key_span, record);
        self.hide(lowered.secrets);
        self.application.opaque.uncertain |= lowered.uncertain;
        let clean = lowered.findings.is_empty();
        self.findings.extend(lowered.findings);
        let typed = lowered.value.map(read);
        if clean && matches!(typed, Some(Err(_))) {
            // The reader's own message may hold a value from the environment, so it is not shown.
            self.findings.push(
                Finding::new(codes::UNREADABLE_SPEC, "this spec cannot be understood")
                    .at(spec.key_span, "this one")
                    .help("compare it with the reference of its kind"),
            );
        }
        let component = Component {
            kind: info,
            spec: typed.and_then(Result::ok),
            span: root.span,
            kind_span,
            tree: spec.value,
            facts: lowered.facts,
            present: lowered.present.into_iter().collect(),
        };
        self.configuration(&component);
        if component.id().is_none() {
            self.unnamed(info.family);
        }
        self.application.components.push(component);
    }

    /// The value of `kind`, or a finding that says why there is none.
    fn kind_of<'n>(&mut self, root: &'n Node) -> Option<&'n Node> {
        if let Some(node) = root.get("kind") {
            return Some(node);
        }
        if root.entry("module").is_some() && root.entry("version").is_some() {
            let place = root
                .entry("version")
                .map_or(root.span, |entry| entry.key_span);
            self.findings.push(
                Finding::new(codes::OLD_FORMAT, "this is the format of StateFun 3.0 and before")
                    .at(place, "format with `version` and `module`")
                    .help("write each endpoint, ingress and egress as a document of its own with `kind` and `spec`, divided by `---`"),
            );
            return None;
        }
        let keys = root.entries().iter().map(|entry| entry.key.as_str());
        let misspelt = keys
            .filter(|key| *key != "spec")
            .find(|key| nearest(key, ["kind"]).is_some())
            .and_then(|key| root.entry(key));
        if let Some(entry) = misspelt {
            let finding = Finding::new(
                codes::UNKNOWN_FIELD,
                format!("`{}` is not a key of a component", entry.key),
            )
            .at(entry.key_span, "unknown key");
            let finding = if entry.key == "kind" {
                Finding::new(codes::MISSING_FIELD, "`kind` has no value")
                    .at(entry.key_span, "nothing behind it")
                    .help("write it as in `kind: io.statefun.http.v1/ingress`")
            } else {
                finding.help("did you mean `kind`?")
            };
            self.findings.push(finding);
            return None;
        }
        let place = root
            .entries()
            .first()
            .map_or(root.span, |entry| entry.key_span);
        self.findings.push(
            Finding::new(
                codes::NOT_A_COMPONENT,
                "this document does not say its `kind`",
            )
            .at(place, "`kind` is missing here")
            .help("begin with `kind: …`, as in `kind: io.statefun.http.v1/ingress`"),
        );
        None
    }

    /// Reports what stands beside `kind` and `spec`, all of it at once: most likely the indentation is lost.
    fn extra_keys(&mut self, root: &Node) {
        let mut extra = root
            .entries()
            .iter()
            .filter(|entry| !matches!(entry.key.as_str(), "kind" | "spec"));
        let Some(first) = extra.next() else { return };
        let has_spec = root.entry("spec").is_some();
        let help = if !has_spec && nearest(&first.key, ["spec"]).is_some() {
            "did you mean `spec`?"
        } else {
            "a component has the keys `kind` and `spec`; its fields stand below `spec:`, indented"
        };
        let mut finding = Finding::new(
            codes::UNKNOWN_FIELD,
            format!("`{}` is not a key of a component", first.key),
        )
        .at(first.key_span, "unknown key")
        .help(help);
        for entry in extra {
            finding = finding.related(entry.key_span, "nor is this");
        }
        self.findings.push(finding);
    }

    fn no_spec(&mut self, root: &Node, kind_span: Span) {
        // A key that does not belong here has its finding, and most likely is the spec.
        let strange = root
            .entries()
            .iter()
            .any(|entry| !matches!(entry.key.as_str(), "kind" | "spec"));
        if strange {
            return;
        }
        let place = root.entry("spec").map_or(kind_span, |entry| entry.key_span);
        self.findings.push(
            Finding::new(codes::MISSING_FIELD, "the component has no `spec`")
                .at(place, "`spec` is missing or empty")
                .help("write its fields below `spec:`, indented"),
        );
    }

    fn hide(&mut self, secrets: Vec<Span>) {
        for secret in secrets {
            self.application.sources.hide(secret);
        }
    }

    /// Keeps what a document mentions, though not what it means.
    fn set_aside(&mut self, node: &Node) {
        match &node.value {
            Value::Null | Value::Unreadable => {}
            Value::Scalar(scalar) => {
                self.application.opaque.mentions.insert(scalar.text.clone());
            }
            Value::List(items) => items.iter().for_each(|item| self.set_aside(item)),
            Value::Map(entries) => entries
                .iter()
                .for_each(|entry| self.set_aside(&entry.value)),
        }
    }

    /// Remembers that a component has an id which cannot be read.
    fn unnamed(&mut self, family: Family) {
        match family {
            Family::Ingress => self.application.opaque.some_ingress = true,
            Family::Egress => self.application.opaque.some_egress = true,
            Family::Endpoint | Family::Configuration => {}
        }
    }

    fn configuration(&mut self, component: &Component) {
        let Some(Spec::Configuration(configuration)) = &component.spec else {
            return;
        };
        for (key, value) in configuration.global_configuration.iter() {
            let place = component
                .tree
                .get("globalConfiguration")
                .and_then(|map| map.entry(key))
                .map_or(component.span, |entry| entry.key_span);
            match self.configuration.get(key) {
                Some((known, first)) if known != value => {
                    self.findings.push(
                        Finding::new(
                            codes::CONFIGURATION_CONFLICT,
                            format!("`{key}` of globalConfiguration has two values"),
                        )
                        .at(place, "another value here")
                        .related(*first, "set here first")
                        .help("keep one of them; the configuration is one map for the whole application"),
                    );
                }
                Some(_) => {}
                None => {
                    self.configuration
                        .insert(key.to_owned(), (value.to_owned(), place));
                    self.application.global.add(key, value);
                }
            }
        }
    }
}

/// The entry of `spec`, with the fields that stand beside it instead of in it: they have their finding, and are read as if
/// they stood where they belong. None when there is nothing to read.
fn spec_of(root: &Node, record: &'static Record) -> Option<Entry> {
    let mut spec = root.entry("spec").cloned();
    let strays: Vec<Entry> = root
        .entries()
        .iter()
        .filter(|entry| !matches!(entry.key.as_str(), "kind" | "spec"))
        .cloned()
        .collect();
    if spec.is_none() {
        // `specs:` and the like.
        let misspelt = strays
            .iter()
            .find(|entry| nearest(&entry.key, ["spec"]).is_some());
        spec = misspelt.cloned();
    }
    let strays: Vec<Entry> = strays
        .into_iter()
        .filter(|entry| record.field(&entry.key).is_some())
        .collect();
    match &mut spec {
        Some(entry) if matches!(entry.value.value, Value::Null) => {
            let first = strays.first()?;
            entry.value = Node {
                span: first.key_span,
                value: Value::Map(strays),
            };
        }
        Some(entry) => {
            let present: Vec<String> = entry
                .value
                .entries()
                .iter()
                .map(|entry| entry.key.clone())
                .collect();
            if let Value::Map(entries) = &mut entry.value.value {
                entries.extend(
                    strays
                        .into_iter()
                        .filter(|stray| !present.contains(&stray.key)),
                );
            }
        }
        None => {
            let first = strays.first()?;
            spec = Some(Entry {
                key: "spec".to_owned(),
                key_span: first.key_span,
                value: Node {
                    span: first.key_span,
                    value: Value::Map(strays),
                },
            });
        }
    }
    spec
}

fn ready_kinds() -> impl Iterator<Item = &'static str> {
    KINDS
        .iter()
        .filter(|kind| matches!(kind.availability, Availability::Ready { .. }))
        .map(|kind| kind.name)
}
