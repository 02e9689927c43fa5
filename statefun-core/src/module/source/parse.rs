//! The marking parser: YAML events with their places become trees of [`Node`]s.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::substitute::{Problem, ProblemKind, Substituted, references, substitute};
use super::{
    Document, Entry, Environment, FileId, Node, Scalar, SourceFile, Span, Value, Variable,
};
use crate::module::codes;
use crate::module::finding::Finding;

/// Deepest nesting that is read. Wiring needs five levels; a limit keeps hostile input from exhausting the stack.
pub const MAX_DEPTH: usize = 64;

/// Most values that one file may hold, aliases expanded: a few lines of aliases could otherwise fill the memory.
const MAX_NODES: usize = 20_000;

/// What reading one file gave.
pub(crate) struct Parsed {
    /// The documents before the first syntax error.
    pub(crate) documents: Vec<Document>,
    /// Whether a syntax error hides the rest of the file.
    pub(crate) truncated: bool,
    /// The variables that values refer to, in the order of the file.
    pub(crate) variables: Vec<Variable>,
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
        variables: Vec::new(),
    };
    let mut parser = Parser::new_from_str(file.text());
    loop {
        match parser.next_event() {
            None => break,
            Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => {
                if let Err(Stop) = builder.event(event, span) {
                    return builder.parsed(true);
                }
            }
            Some(Err(error)) => {
                let finding = builder.syntax(&error);
                builder.findings.push(finding);
                return builder.parsed(true);
            }
        }
    }
    builder.parsed(false)
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
        /// Where what has been put in so far ends.
        end: usize,
    },
    Map {
        start: usize,
        anchor: usize,
        entries: Vec<Entry>,
        /// The key whose value comes next.
        key: Option<Key>,
        flow: bool,
        /// Where what has been put in so far ends.
        end: usize,
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
    variables: Vec<Variable>,
}

impl Builder<'_> {
    fn parsed(self, truncated: bool) -> Parsed {
        Parsed {
            documents: self.done,
            truncated,
            variables: self.variables,
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span {
            file: self.file,
            start,
            end: end.max(start),
        }
    }

    fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
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
                self.push(node, 0, end)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(&text, style, tag.as_deref(), start, end);
                let end = node.span.end;
                self.push(node, anchor, end)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(start, end)?;
                self.tag(tag.as_deref(), "seq", start, end);
                let flow = self.ends_with(start, end, '[');
                let start = if flow { end - 1 } else { start };
                self.stack.push(Open::List {
                    start,
                    anchor,
                    items: Vec::new(),
                    flow,
                    end: start,
                });
                Ok(())
            }
            Event::MappingStart(anchor, tag) => {
                self.open(start, end)?;
                self.tag(tag.as_deref(), "map", start, end);
                let flow = self.ends_with(start, end, '{');
                let start = if flow { end - 1 } else { start };
                self.stack.push(Open::Map {
                    start,
                    anchor,
                    entries: Vec::new(),
                    key: None,
                    flow,
                    end: start,
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                None => Ok(()),
                Some(open) => {
                    let (node, anchor) = self.close(open, end);
                    let end = node.span.end;
                    self.push(node, anchor, end)
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

    /// Whether a collection begins with this bracket: its range takes in the anchor and tag before it.
    fn ends_with(&self, start: usize, end: usize, bracket: char) -> bool {
        self.text
            .get(start..end)
            .is_some_and(|slice| slice.ends_with(bracket))
    }

    /// Puts a finished node where it belongs. `until` is where it ends in this place; an alias's own range is elsewhere.
    fn push(&mut self, node: Node, anchor: usize, until: usize) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.findings.push(
                Finding::new(
                    codes::INVALID_YAML,
                    "more than 20,000 values, aliases expanded",
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
        let outermost = self.stack.len() == 1;
        match self.stack.last_mut() {
            None => {
                self.anchors.clear();
                if !matches!(node.value, Value::Null) {
                    self.done.push(Document { root: node });
                }
            }
            Some(Open::List { items, end, .. }) => {
                items.push(node);
                *end = until;
            }
            Some(Open::Map {
                entries, key, end, ..
            }) => match key.take() {
                None => {
                    if outermost && let Some(first) = repeated_kind(&node, entries) {
                        self.findings.push(missing_divider(node.span, first));
                        let span = Span { end: *end, ..first };
                        let value = Value::Map(std::mem::take(entries));
                        self.done.push(Document {
                            root: Node { span, value },
                        });
                    }
                    *end = until;
                    let read = read_key(&node, entries, self.findings);
                    *key = Some(read);
                }
                Some(Key::Refused) => {}
                Some(Key::Text(key, key_span)) => {
                    entries.push(Entry {
                        key,
                        key_span,
                        value: node,
                    });
                    *end = until.max(*end);
                }
            },
        }
        Ok(())
    }

    /// A block collection ends with its last item; the parser says only where the next thing begins.
    fn close(&self, open: Open, after: usize) -> (Node, usize) {
        match open {
            Open::List {
                start,
                anchor,
                items,
                flow,
                end,
            } => {
                let first = items.first().map(|item| item.span.start);
                let start = match first {
                    // The dash of the first item; an anchor before it is left out.
                    Some(first) if !flow && first > start => self.dash_before(start, first),
                    _ => start,
                };
                let span = self.span(start, if flow { after } else { end });
                let value = Value::List(items);
                (Node { span, value }, anchor)
            }
            Open::Map {
                start,
                anchor,
                entries,
                key: _,
                flow,
                end,
            } => {
                let first = entries.first().map(|entry| entry.key_span.start);
                let span = if flow {
                    self.span(start, after)
                } else {
                    self.span(first.unwrap_or(start), end)
                };
                let value = Value::Map(entries);
                (Node { span, value }, anchor)
            }
        }
    }

    fn dash_before(&self, start: usize, first: usize) -> usize {
        let slice = self.text.get(start..first).unwrap_or_default();
        slice.find('-').map_or(first, |at| start + at)
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
        let span = self.scalar_span(style, written.is_empty(), start, end);
        let mut quoted = style != ScalarStyle::Plain;
        if let Some(tag) = tag {
            let core = tag.is_yaml_core_schema();
            match tag.suffix.as_str() {
                "str" if core => quoted = true,
                "int" | "float" | "bool" | "null" if core => quoted = false,
                _ => self.tag(Some(tag), "", start, span.end),
            }
        }
        // A key is a name: variables are not put in there.
        let is_key = matches!(self.stack.last(), Some(Open::Map { key: None, .. }));
        let result = if is_key {
            Substituted {
                text: written.to_owned(),
                problems: Vec::new(),
                variables: Vec::new(),
            }
        } else {
            substitute(written, self.environment)
        };
        self.variables.extend(result.variables);
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
                folded: style == ScalarStyle::Plain && self.slice(span).contains('\n'),
            })
        };
        Node { span, value }
    }

    /// The parser's ranges of scalars take in what stands around: anchor and tag before, blanks and comments behind.
    fn scalar_span(&self, style: ScalarStyle, empty: bool, start: usize, end: usize) -> Span {
        let mut start = start;
        let mut slice = self.text.get(start..end).unwrap_or_default();
        while slice.starts_with(['&', '!']) {
            let property = slice.find(char::is_whitespace).unwrap_or(slice.len());
            let rest = slice[property..].trim_start();
            start += slice.len() - rest.len();
            slice = rest;
        }
        let length = match style {
            ScalarStyle::Plain if empty => 0,
            ScalarStyle::SingleQuoted => closing_quote(slice, '\''),
            ScalarStyle::DoubleQuoted => closing_quote(slice, '"'),
            ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => {
                slice.trim_end().len()
            }
        };
        self.span(start, start + length)
    }

    fn references(&mut self, written: &str, span: Span, problems: &[Problem]) {
        // Escapes and folding can move a reference; where the file shows as many as the value, they correspond.
        let raw = self.slice(span);
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
        let from = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = self.text[from..].lines().next().unwrap_or_default();
        let indentation = &line[..line.len() - line.trim_start().len()];
        finding.help(if indentation.contains('\t') {
            "YAML indents with spaces; this line has a tab"
        } else if line.contains("${") {
            "put quotes around a value that holds `${…}` inside `[ ]` or `{ }`"
        } else if error.info().contains("anchor") {
            "an alias `*name` needs an anchor `&name` before it; put quotes around text that begins with `*`"
        } else {
            "see whether the lines above are indented alike and every quote and bracket is closed"
        })
    }
}

/// Length of a quoted text at the beginning of `slice`, with its quotes.
fn closing_quote(slice: &str, quote: char) -> usize {
    let mut characters = slice.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == '\\' && quote == '"' {
            characters.next();
        } else if c == quote {
            let doubled =
                quote == '\'' && characters.peek().is_some_and(|(_, next)| *next == quote);
            if !doubled {
                return at + quote.len_utf8();
            }
            characters.next();
        }
    }
    slice.trim_end().len()
}

/// Where `kind` stands already, when the node is that key again: a component that nothing divides from the one before.
fn repeated_kind(node: &Node, entries: &[Entry]) -> Option<Span> {
    let is_kind = node.scalar().is_some_and(|scalar| scalar.written == "kind");
    let first = entries.iter().find(|entry| entry.key == "kind")?;
    is_kind.then_some(first.key_span)
}

fn missing_divider(again: Span, first: Span) -> Finding {
    Finding::new(
        codes::DUPLICATE_KEY,
        "a second component begins in this document",
    )
    .at(again, "begins here")
    .related(first, "the first one")
    .help("put a line `---` between them")
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
