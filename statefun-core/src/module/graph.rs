//! The wiring as a graph: ingress → router → function → function and egress, as text, Mermaid, DOT and JSON.

mod draw;

use std::collections::BTreeMap;

use serde::Serialize;

use super::application::Application;
use super::description::Description;
use super::model::Family;
use super::schema::Role;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Takes messages in.
    Ingress,
    /// Decides where messages go.
    Router,
    /// Handles messages, one instance per id.
    Function,
    /// Lets records out.
    Egress,
    /// Stands for targets that are only known at run time.
    Unknown,
}

impl NodeKind {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Router => "router",
            Self::Function => "function",
            Self::Egress => "egress",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that messages pass through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GraphNode {
    /// What it is.
    pub kind: NodeKind,
    /// Its id, type name or name.
    pub name: String,
    /// More about it: the kind of an ingress or egress, `bound by code`, `not declared`. Empty when there is nothing to say.
    pub detail: String,
}

/// A way that messages take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GraphEdge {
    /// Index of the node that it leaves.
    pub from: usize,
    /// Index of the node that it enters.
    pub to: usize,
    /// Types of the messages, where they are known, sorted.
    pub messages: Vec<String>,
    /// Whether the targets are only known at run time.
    pub dynamic: bool,
}

/// The wiring of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// Everything that messages pass through: ingresses, routers, functions, egresses, each sorted by name.
    pub nodes: Vec<GraphNode>,
    /// The ways between them, sorted by where they leave and where they enter.
    pub edges: Vec<GraphEdge>,
}

impl Graph {
    /// Draws the wiring that module.yaml and the code together describe. Names that nothing declares appear too, marked.
    pub fn of(application: &Application, description: &Description) -> Self {
        let mut builder = Builder::default();
        builder.components(application, description);
        builder.code(description);
        builder.finish()
    }
}

/// Kind and name: what edges connect until the nodes are in their places.
type Key = (NodeKind, String);

#[derive(Default)]
struct Builder {
    nodes: BTreeMap<Key, String>,
    edges: BTreeMap<(Key, Key), (Vec<String>, bool)>,
}

impl Builder {
    fn declare(&mut self, kind: NodeKind, name: &str, detail: &str) -> Key {
        let key = (kind, name.to_owned());
        let known = self.nodes.entry(key.clone()).or_default();
        if known.is_empty() {
            detail.clone_into(known);
        }
        key
    }

    /// A node that is only named; it stays marked unless it is declared as well.
    fn named(kind: NodeKind, name: &str) -> Key {
        (kind, name.to_owned())
    }

    fn connect(&mut self, from: &Key, to: &Key, messages: &[&str], dynamic: bool) {
        let edge = self
            .edges
            .entry((from.clone(), to.clone()))
            .or_insert((Vec::new(), false));
        edge.0
            .extend(messages.iter().map(|message| (*message).to_owned()));
        edge.1 |= dynamic;
    }

    fn components(&mut self, application: &Application, description: &Description) {
        for component in application.components() {
            let Some((id, _)) = component.id() else {
                continue;
            };
            let kind = match component.kind.family {
                Family::Ingress => NodeKind::Ingress,
                Family::Egress => NodeKind::Egress,
                Family::Endpoint | Family::Configuration => continue,
            };
            let here = self.declare(kind, id, component.kind.name);
            let types: Vec<&str> = component
                .facts(Role::ValueType)
                .map(|fact| fact.name.as_str())
                .collect();
            for target in component.facts(Role::Function) {
                let to = Self::named(NodeKind::Function, &target.name);
                self.connect(&here, &to, &types, false);
            }
            for router in component.facts(Role::Router) {
                let to = Self::named(NodeKind::Router, &router.name);
                self.connect(&here, &to, &types, false);
            }
            for egress in component.facts(Role::Egress) {
                let to = Self::named(NodeKind::Egress, &egress.name);
                self.connect(&here, &to, &["dead letters"], false);
            }
            if kind == NodeKind::Ingress && component.kind.fixed_id.is_some() {
                // Whoever sends to the playground names the target.
                let unknown = self.unknown();
                self.connect(&here, &unknown, &[], true);
            }
        }
        for id in &description.ingresses {
            self.declare(NodeKind::Ingress, id, "bound by code");
        }
        for id in &description.egresses {
            self.declare(NodeKind::Egress, id, "bound by code");
        }
    }

    fn code(&mut self, description: &Description) {
        for router in &description.routers {
            let here = self.declare(NodeKind::Router, &router.name, "in code");
            if let Some(ingress) = &router.ingress {
                let from = Self::named(NodeKind::Ingress, ingress);
                self.connect(&from, &here, &[&router.message], false);
            }
            for to in &router.to {
                let to = Self::named(NodeKind::Function, to);
                self.connect(&here, &to, &[], false);
            }
        }
        for function in &description.functions {
            let here = self.declare(NodeKind::Function, &function.typename, "in code");
            for to in &function.sends {
                let to = Self::named(NodeKind::Function, to);
                self.connect(&here, &to, &[], false);
            }
            for used in &function.egress {
                let to = Self::named(NodeKind::Egress, &used.id);
                self.connect(&here, &to, &[&used.message], false);
            }
            if function.dynamic_sends {
                let unknown = self.unknown();
                self.connect(&here, &unknown, &[], true);
            }
        }
    }

    fn unknown(&mut self) -> Key {
        self.declare(NodeKind::Unknown, "any function", "known at run time")
    }

    fn finish(mut self) -> Graph {
        let ends: Vec<Key> = self
            .edges
            .keys()
            .flat_map(|(from, to)| [from.clone(), to.clone()])
            .collect();
        for key in ends {
            self.nodes
                .entry(key)
                .or_insert_with(|| "not declared".to_owned());
        }
        let places: BTreeMap<&Key, usize> = self.nodes.keys().zip(0..).collect();
        let edges = self
            .edges
            .iter()
            .filter_map(|((from, to), (messages, dynamic))| {
                let mut messages = messages.clone();
                messages.sort();
                messages.dedup();
                Some(GraphEdge {
                    from: *places.get(from)?,
                    to: *places.get(to)?,
                    messages,
                    dynamic: *dynamic,
                })
            })
            .collect();
        let nodes = self
            .nodes
            .iter()
            .map(|((kind, name), detail)| GraphNode {
                kind: *kind,
                name: name.clone(),
                // That functions and routers are in code goes without saying.
                detail: if detail == "in code" {
                    String::new()
                } else {
                    detail.clone()
                },
            })
            .collect();
        Graph { nodes, edges }
    }
}
