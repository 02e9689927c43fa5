//! Ports: what listens can share an address only as HTTP ingresses with different paths do.

use std::collections::BTreeMap;

use super::Checker;
use crate::module::application::{Application, Component};
use crate::module::codes;
use crate::module::finding::{Finding, Findings};
use crate::module::model::{HttpIngress, Spec};
use crate::module::source::{Node, Span};

/// A port that the runtime itself listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedPort {
    /// The port.
    pub port: u16,
    /// What it is for, as in `the operations port`.
    pub purpose: String,
}

/// Finds components that listen on ports which the runtime needs itself.
pub fn check_reserved_ports(application: &Application, reserved: &[ReservedPort]) -> Findings {
    let findings = listeners(application)
        .into_iter()
        .filter_map(|listener| {
            let taken = reserved
                .iter()
                .find(|reserved| reserved.port != 0 && reserved.port == listener.port)?;
            Some(
                Finding::new(
                    codes::ADDRESS_TAKEN,
                    format!("port {} is {}", taken.port, taken.purpose),
                )
                .at(listener.place, "taken")
                .help("give one of them another port"),
            )
        })
        .collect();
    Findings::new(findings)
}

struct Listener<'a> {
    component: &'a Component,
    host: String,
    port: u16,
    place: Span,
    /// Whether the address is the default, which does not stand in the file.
    by_default: bool,
    http: Option<&'a HttpIngress>,
}

impl Listener<'_> {
    fn label(&self) -> String {
        if self.by_default {
            format!("listens on {}:{} by default", self.host, self.port)
        } else {
            "listens here".to_owned()
        }
    }

    fn everywhere(&self) -> bool {
        matches!(self.host.as_str(), "0.0.0.0" | "::")
    }

    fn same_address(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.port == other.port
            && self.port != 0
            && (self.host == other.host || self.everywhere() || other.everywhere())
    }
}

fn listeners(application: &Application) -> Vec<Listener<'_>> {
    application
        .components()
        .iter()
        .filter_map(|component| {
            let (host, port, http) = match component.spec.as_ref()? {
                Spec::HttpIngress(spec) => {
                    let host = match spec.address.host() {
                        "localhost" => "127.0.0.1",
                        host => host,
                    };
                    (host, spec.address.port(), Some(spec))
                }
                // They listen on all addresses, as StateFun's do.
                Spec::PlaygroundIngress(spec) => ("0.0.0.0", spec.port, None),
                Spec::PlaygroundEgress(spec) => ("0.0.0.0", spec.port, None),
                _ => return None,
            };
            // A bad address counts as absent, and its default was not meant.
            let bad = component.has("address")
                && http.is_some_and(|spec| {
                    let written = component.tree.at("address").and_then(Node::scalar);
                    written.is_none_or(|scalar| scalar.text != spec.address.as_str())
                });
            if bad {
                return None;
            }
            let field = if http.is_some() { "address" } else { "port" };
            Some(Listener {
                component,
                host: host.to_owned(),
                port,
                place: component.field_span(field),
                by_default: !component.has(field),
                http,
            })
        })
        .collect()
}

pub(super) fn check(checker: &mut Checker<'_>) {
    let listeners = listeners(checker.application);
    let mut findings = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        let conflict = listeners[..index].iter().find(|earlier| {
            let shared =
                earlier.http.is_some() && listener.http.is_some() && earlier.same_address(listener);
            !shared && earlier.overlaps(listener)
        });
        if let Some(earlier) = conflict {
            findings.push(
                Finding::new(
                    codes::ADDRESS_TAKEN,
                    format!(
                        "{} and {} both listen on port {}",
                        earlier.component.title(),
                        listener.component.title(),
                        listener.port
                    ),
                )
                .at(listener.place, listener.label())
                .related(earlier.place, earlier.label())
                .help("give one of them another port"),
            );
        }
    }
    shared_settings(&listeners, &mut findings);
    routes(&listeners, &mut findings);
    checker.findings.extend(findings);
}

/// One address has one certificate.
fn shared_settings(listeners: &[Listener<'_>], findings: &mut Vec<Finding>) {
    let mut first: BTreeMap<(&str, u16), &Listener<'_>> = BTreeMap::new();
    for listener in listeners {
        let Some(spec) = listener.http else { continue };
        if listener.port == 0 {
            continue;
        }
        let Some(earlier) = first.get(&(listener.host.as_str(), listener.port)) else {
            first.insert((&listener.host, listener.port), listener);
            continue;
        };
        let same = earlier.http.is_none_or(|earlier| earlier.tls == spec.tls);
        let well_formed = |listener: &Listener<'_>| {
            !listener.component.has("tls") || listener.http.is_some_and(|spec| spec.tls.is_some())
        };
        if same || !well_formed(listener) || !well_formed(earlier) {
            continue;
        }
        let place =
            |listener: &Listener<'_>| listener.component.key_span("tls").unwrap_or(listener.place);
        findings.push(
            Finding::new(
                codes::CONTRADICTION,
                format!(
                    "{} and {} share an address and differ in `tls`",
                    earlier.component.title(),
                    listener.component.title()
                ),
            )
            .at(place(listener), "this one")
            .related(place(earlier), "that one")
            .help("write the same `tls` for both, or give one of them another port"),
        );
    }
}

fn routes(listeners: &[Listener<'_>], findings: &mut Vec<Finding>) {
    let mut first: BTreeMap<(&str, u16, String), &Listener<'_>> = BTreeMap::new();
    for listener in listeners {
        let Some(spec) = listener.http else { continue };
        // A bad path counts as absent, and its default was not meant.
        if listener.port == 0 || (listener.component.has("path") && spec.path.is_none()) {
            continue;
        }
        // Two ingresses with one id have one default path, and their finding already.
        let key = (
            listener.host.as_str(),
            listener.port,
            spec.path_template().shape(),
        );
        let Some(earlier) = first.get(&key) else {
            first.insert(key, listener);
            continue;
        };
        if earlier.component.id().map(|(id, _)| id) == listener.component.id().map(|(id, _)| id) {
            continue;
        }
        let place = |listener: &Listener<'_>| {
            listener
                .component
                .span_of("path")
                .or_else(|| listener.component.id().map(|(_, span)| span))
                .unwrap_or(listener.place)
        };
        findings.push(
            Finding::new(
                codes::SAME_ROUTE,
                format!(
                    "{} and {} take the same requests",
                    earlier.component.title(),
                    listener.component.title()
                ),
            )
            .at(place(listener), "the same path")
            .related(place(earlier), "this path")
            .help("give one of them another `path`, or another port"),
        );
    }
}
