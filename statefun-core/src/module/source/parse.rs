//! The marking parser: YAML events with their places become trees of [`Node`]s.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::substitute::{Problem, ProblemKind, Substituted, references, substitute};
use super::{Document, Entry, Environment, FileId, Node, Scalar, SourceFile, Span, Value};
use crate::module::codes;
use crate::module::finding::Finding;

/// Deepest nesting that is read. Wiring needs five levels; a limit keeps hostile input from exhausting the stack.
pub const MAX_DEPTH: usize = 64;

/// Most values that one file may hold, aliases expanded: a few lines of aliases could otherwise fill the memory.
const MAX_NODES: usize = 100_000;

/// What reading one file gave.
pub(crate) struct Parsed {
    /// The documents before the first syntax error.
    pub(crate) documents: Vec<Document>,
    /// Whether a syntax error hides the rest of the file.
    pub(crate) truncated: bool,
}

/// Reads one file. Empty documents are left out.
pub(crate) fn parse(
    id: FileId,
    file: &SourceFile,
    environment: &Environment,
    findings: &mut Vec<Finding>,
) -> Parsed {
    let mut builder = Builder {
        file: id,
        text: file.text(),
        offsets: Offsets::new(file.text()),
        environment,
        findings,
        anchors: HashMap::new(),
        nodes: 0,
        stack: Vec::new(),
        done: Vec::new(),
    };
    let mut parser = Parser::new_from_str(file.text());
    loop {
        match parser.next_event() {
            None => break,
            Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => {
                if let Err(Stop) = builder.event(event, span) {
                    return Parsed {
                        documents: builder.done,
                        truncated: true,
                    };
                }
            }
            Some(Err(error)) => {
                let finding = builder.syntax(&error);
                builder.findings.push(finding);
                return Parsed {
                    documents: builder.done,
                    truncated: true,
                };
            }
        }
    }
    Parsed {
        documents: builder.done,
        truncated: false,
    }
}

/// The file is given up; the finding has been pushed.
struct Stop;

/// Character index → byte offset; the parser counts characters.
struct Offsets {
    /// None when every character is one byte.
    bytes: Option<Vec<usize>>,
    length: usize,
}

impl Offsets {
    fn new(text: &str) -> Self {
        Self {
            bytes: (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect()),
            length: text.len(),
        }
    }

    fn byte(&self, index: usize) -> usize {
        match &self.bytes {
            None => index.min(self.length),
            Some(bytes) => bytes.get(index).copied().unwrap_or(self.length),
        }
    }
}

/// A map or list that is being filled.
enum Open {
    List {
        start: usize,
        anchor: usize,
        items: Vec<Node>,
        flow: bool,
    },
    Map {
        start: usize,
        anchor: usize,
        entries: Vec<Entry>,
        /// The key whose value comes next.
        key: Option<Key>,
        flow: bool,
    },
}

/// A key that has been read.
enum Key {
    Text(String, Span),
    /// Not usable: it has its finding, its value is dropped.
    Refused,
}

struct Builder<'a> {
    file: FileId,
    text: &'a str,
    offsets: Offsets,
    environment: &'a Environment,
    findings: &'a mut Vec<Finding>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    stack: Vec<Open>,
    done: Vec<Document>,
}

impl Builder<'_> {
    fn span(&self, start: usize, end: usize) -> Span {
        Span {
            file: self.file,
            start,
            end: end.max(start),
        }
    }

    fn event(&mut self, event: Event<'_>, span: saphyr_parser::Span) -> Result<(), Stop> {
        let start = self.offsets.byte(span.start.index());
        let end = self.offsets.byte(span.end.index()).max(start);
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => {
                let place = self.span(start, end);
                let node = if let Some((node, size)) = self.anchors.get(&anchor) {
                    self.nodes += size;
                    node.clone()
                } else {
                    self.findings.push(
                        Finding::new(
                            codes::INVALID_YAML,
                            "this alias stands inside the value that it names",
                        )
                        .at(place, "endless")
                        .help("write the value out"),
                    );
                    Node {
                        span: place,
                        value: Value::Unreadable,
                    }
                };
                self.push(node, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(&text, style, tag.as_deref(), start, end);
                self.push(node, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(start, end)?;
                self.tag(tag.as_deref(), "seq", start, end);
                let flow = self.text.get(start..).is_some_and(|t| t.starts_with('['));
                self.stack.push(Open::List {
                    start,
                    anchor,
                    items: Vec::new(),
                    flow,
                });
                Ok(())
            }
            Event::MappingStart(anchor, tag) => {
                self.open(start, end)?;
                self.tag(tag.as_deref(), "map", start, end);
                let flow = self.text.get(start..).is_some_and(|t| t.starts_with('{'));
                self.stack.push(Open::Map {
                    start,
                    anchor,
                    entries: Vec::new(),
                    key: None,
                    flow,
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                None => Ok(()),
                Some(open) => {
                    let (node, anchor) = self.close(open, end);
                    self.push(node, anchor)
                }
            },
        }
    }

    fn open(&mut self, start: usize, end: usize) -> Result<(), Stop> {
        if self.stack.len() < MAX_DEPTH {
            return Ok(());
        }
        let place = self.span(start, end.max(start + 1).min(self.text.len()));
        self.findings.push(
            Finding::new(
                codes::INVALID_YAML,
                format!("nested more than {MAX_DEPTH} levels deep"),
            )
            .at(place, "too deep")
            .help("module.yaml needs a handful of levels; is this the right file?"),
        );
        Err(Stop)
    }

    /// Puts a finished node where it belongs.
    fn push(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.findings.push(
                Finding::new(
                    codes::INVALID_YAML,
                    format!("more than {MAX_NODES} values, aliases expanded"),
                )
                .at(node.span, "given up here")
                .help("split the file, or write fewer aliases of aliases"),
            );
            return Err(Stop);
        }
        if anchor != 0 {
            let size = count(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.stack.last_mut() {
            None => {
                self.anchors.clear();
                if !matches!(node.value, Value::Null) {
                    self.done.push(Document { root: node });
                }
            }
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                None => {
                    let read = read_key(&node, entries, self.findings);
                    *key = Some(read);
                }
                Some(Key::Refused) => {}
                Some(Key::Text(key, key_span)) => entries.push(Entry {
                    key,
                    key_span,
                    value: node,
                }),
            },
        }
        Ok(())
    }

    fn close(&self, open: Open, end: usize) -> (Node, usize) {
        match open {
            Open::List {
                start,
                anchor,
                items,
                flow,
            } => {
                let last = items.last().map(|item| item.span.end);
                // A block collection ends with its last item; the parser says only where the next thing begins.
                let end = if flow { end } else { last.unwrap_or(start) };
                let span = self.span(start, end);
                (
                    Node {
                        span,
                        value: Value::List(items),
                    },
                    anchor,
                )
            }
            Open::Map {
                start,
                anchor,
                entries,
                key: _,
                flow,
            } => {
                let first = entries.first().map(|entry| entry.key_span.start);
                let last = entries
                    .last()
                    .map(|entry| entry.value.span.end.max(entry.key_span.end));
                let (start, end) = if flow {
                    (start, end)
                } else {
                    (first.unwrap_or(start), last.unwrap_or(start))
                };
                let span = self.span(start, end);
                (
                    Node {
                        span,
                        value: Value::Map(entries),
                    },
                    anchor,
                )
            }
        }
    }

    /// Custom tags mean nothing here; those of YAML itself must fit what they stand on.
    fn tag(&mut self, tag: Option<&Tag>, fits: &str, start: usize, end: usize) {
        let Some(tag) = tag else { return };
        if tag.is_yaml_core_schema() && tag.suffix == fits {
            return;
        }
        let place = self.span(start, end);
        self.findings.push(
            Finding::new(
                codes::INVALID_YAML,
                format!("the tag `{tag}` means nothing here"),
            )
            .at(place, "tagged value")
            .help("leave the tag out"),
        );
    }

    fn scalar(
        &mut self,
        written: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        start: usize,
        end: usize,
    ) -> Node {
        let span = self.scalar_span(style, start, end);
        let mut quoted = style != ScalarStyle::Plain;
        if let Some(tag) = tag {
            let core = tag.is_yaml_core_schema();
            match tag.suffix.as_str() {
                "str" if core => quoted = true,
                "int" | "float" | "bool" | "null" if core => quoted = false,
                _ => self.tag(Some(tag), "", span.start, span.end),
            }
        }
        // A key is a name: variables are not put in there.
        let is_key = matches!(self.stack.last(), Some(Open::Map { key: None, .. }));
        let result = if is_key {
            Substituted {
                text: written.to_owned(),
                problems: Vec::new(),
            }
        } else {
            substitute(written, self.environment)
        };
        if !result.problems.is_empty() {
            self.references(written, span, &result.problems);
            return Node {
                span,
                value: Value::Unreadable,
            };
        }
        let null = !quoted && matches!(result.text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        let value = if null {
            Value::Null
        } else {
            Value::Scalar(Scalar {
                text: result.text,
                written: written.to_owned(),
                quoted,
            })
        };
        Node { span, value }
    }

    /// The parser's ranges of scalars may take in what follows: blanks, comments, line ends.
    fn scalar_span(&self, style: ScalarStyle, start: usize, end: usize) -> Span {
        let slice = self.text.get(start..end).unwrap_or_default();
        let trimmed = match style {
            ScalarStyle::Plain => slice.trim_end(),
            ScalarStyle::SingleQuoted => slice.rfind('\'').map_or(slice, |at| &slice[..=at]),
            ScalarStyle::DoubleQuoted => slice.rfind('"').map_or(slice, |at| &slice[..=at]),
            ScalarStyle::Literal | ScalarStyle::Folded => slice.trim_end(),
        };
        self.span(start, start + trimmed.len())
    }

    fn references(&mut self, written: &str, span: Span, problems: &[Problem]) {
        // Escapes and folding can move a reference; where the file shows as many as the value, they correspond.
        let raw = self.text.get(span.start..span.end).unwrap_or_default();
        let in_file = references(raw);
        let in_value = references(written);
        for problem in problems {
            let place = in_value
                .iter()
                .position(|range| range.0 == problem.range.0)
                .filter(|_| in_value.len() == in_file.len())
                .and_then(|index| in_file.get(index))
                .map_or(span, |&(from, to)| {
                    self.span(span.start + from, span.start + to)
                });
            let finding = match &problem.kind {
                ProblemKind::Missing(name) => Finding::new(
                    codes::MISSING_VARIABLE,
                    format!("the environment variable `{name}` is not set"),
                )
                .at(place, "needed here")
                .help(format!("set it, or give a default: `${{{name}:-default}}`")),
                ProblemKind::Malformed => Finding::new(
                    codes::MALFORMED_VARIABLE,
                    "this is not a reference to an environment variable",
                )
                .at(place, "cannot be read")
                .help("write `${NAME}` or `${NAME:-default}`; a literal `$` before `{` is written `$$`"),
            };
            self.findings.push(finding);
        }
    }

    fn syntax(&self, error: &ScanError) -> Finding {
        let at = self.offsets.byte(error.marker().index());
        // At the end of the file there is nothing to underline: take its last visible character.
        let at = if self.text[at..].trim().is_empty() {
            let head = self.text[..at].trim_end();
            head.char_indices().next_back().map_or(0, |(last, _)| last)
        } else {
            at
        };
        let width = self.text[at..].chars().next().map_or(0, char::len_utf8);
        let place = self.span(at, at + width);
        let finding = Finding::new(
            codes::INVALID_YAML,
            format!("this is not YAML: {}", error.info()),
        )
        .at(place, "cannot be read from here");
        let line = self.text[..at].rsplit('\n').next().unwrap_or_default();
        if line.contains('\t') {
            finding.help("YAML indents with spaces; this line has a tab")
        } else if line.contains("${") {
            finding.help("put quotes around a value that holds `${…}` inside `[ ]` or `{ }`")
        } else {
            finding.help("see whether the lines above are indented alike and every quote and bracket is closed")
        }
    }
}

fn read_key(node: &Node, entries: &[Entry], findings: &mut Vec<Finding>) -> Key {
    let Value::Scalar(scalar) = &node.value else {
        if !matches!(node.value, Value::Unreadable) {
            findings.push(
                Finding::new(
                    codes::INVALID_YAML,
                    format!("a key must be text, and this is {}", node.describe()),
                )
                .at(node.span, "not a key")
                .help("keys are the names of fields, as in `kind: …`"),
            );
        }
        return Key::Refused;
    };
    if let Some(first) = entries.iter().find(|entry| entry.key == scalar.written) {
        findings.push(
            Finding::new(
                codes::DUPLICATE_KEY,
                format!("the key `{}` stands twice in one map", scalar.written),
            )
            .at(node.span, "again here")
            .related(first.key_span, "first here")
            .help("remove one of them; for a second component begin a new document with `---`"),
        );
        return Key::Refused;
    }
    Key::Text(scalar.written.clone(), node.span)
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
        _ => 0,
    }
}
