//! The graph in each of its formats.

use std::fmt::Write as _;

use super::{Graph, GraphEdge, GraphNode, NodeKind};

/// Version of the JSON layout.
const VERSION: u32 = 1;

#[derive(serde::Serialize)]
struct Output<'a> {
    version: u32,
    nodes: &'a [GraphNode],
    edges: &'a [GraphEdge],
}

impl Graph {
    /// For reading in a terminal: each node with the ways that leave it.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.kind == NodeKind::Unknown {
                continue;
            }
            out.push_str(node.kind.as_str());
            out.push(' ');
            out.push_str(&node.name);
            if !node.detail.is_empty() {
                // Writing to a String cannot fail; neither can the other writes here.
                let _ = write!(out, " ({})", node.detail);
            }
            out.push('\n');
            for edge in self.edges.iter().filter(|edge| edge.from == index) {
                let Some(to) = self.nodes.get(edge.to) else {
                    continue;
                };
                let arrow = if edge.dynamic { "~>" } else { "->" };
                let _ = write!(out, "  {arrow} ");
                if to.kind != NodeKind::Unknown {
                    let _ = write!(out, "{} ", to.kind.as_str());
                }
                out.push_str(&to.name);
                if to.kind == NodeKind::Unknown {
                    let _ = write!(out, " ({})", to.detail);
                }
                if !edge.messages.is_empty() {
                    let _ = write!(out, " [{}]", edge.messages.join(", "));
                }
                out.push('\n');
            }
        }
        out
    }

    /// For Markdown: a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let text = mermaid_text(&label(node, "<br/>"));
            let _ = match node.kind {
                NodeKind::Ingress => writeln!(out, "  n{index}[/\"{text}\"/]"),
                NodeKind::Router => writeln!(out, "  n{index}{{\"{text}\"}}"),
                NodeKind::Function => writeln!(out, "  n{index}([\"{text}\"])"),
                NodeKind::Egress => writeln!(out, "  n{index}[\\\"{text}\"\\]"),
                NodeKind::Unknown => writeln!(out, "  n{index}((\"{text}\"))"),
            };
        }
        for edge in &self.edges {
            let arrow = if edge.dynamic { "-.->" } else { "-->" };
            let words = if edge.messages.is_empty() {
                String::new()
            } else {
                format!("|\"{}\"|", mermaid_text(&edge.messages.join("<br/>")))
            };
            let _ = writeln!(out, "  n{} {arrow}{words} n{}", edge.from, edge.to);
        }
        out
    }

    /// For Graphviz.
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph application {\n  rankdir=LR;\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let shape = match node.kind {
                NodeKind::Ingress => "cds",
                NodeKind::Router => "diamond",
                NodeKind::Function => "box, style=rounded",
                NodeKind::Egress => "rarrow",
                NodeKind::Unknown => "circle, style=dashed",
            };
            let text = dot_text(&label(node, "\n"));
            let _ = writeln!(out, "  n{index} [label=\"{text}\", shape={shape}];");
        }
        for edge in &self.edges {
            let _ = writeln!(
                out,
                "  n{} -> n{}{};",
                edge.from,
                edge.to,
                dot_attributes(edge)
            );
        }
        out.push_str("}\n");
        out
    }

    /// For programs; the layout has a version.
    pub fn to_json(&self) -> String {
        let output = Output {
            version: VERSION,
            nodes: &self.nodes,
            edges: &self.edges,
        };
        // Texts and numbers always serialize.
        let mut text = serde_json::to_string_pretty(&output).unwrap_or_default();
        text.push('\n');
        text
    }
}

fn label(node: &GraphNode, divider: &str) -> String {
    if node.detail.is_empty() {
        node.name.clone()
    } else {
        format!("{}{divider}{}", node.name, node.detail)
    }
}

/// Mermaid reads `#quot;` for a quote and `#35;` for the sign that begins such an escape.
fn mermaid_text(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;")
}

fn dot_text(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn dot_attributes(edge: &GraphEdge) -> String {
    let mut attributes = Vec::new();
    if !edge.messages.is_empty() {
        attributes.push(format!("label=\"{}\"", dot_text(&edge.messages.join("\n"))));
    }
    if edge.dynamic {
        attributes.push("style=dashed".to_owned());
    }
    if attributes.is_empty() {
        String::new()
    } else {
        format!(" [{}]", attributes.join(", "))
    }
}
