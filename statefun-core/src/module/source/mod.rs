//! The text of module.yaml with its places: files, byte ranges, and the tree of values that carries them.
//!
//! serde_yaml reads the typed model, but it cannot say where in the file a value stands that is valid YAML and wrong all
//! the same. So the text is read once by a marking parser into [`Node`]s; every check and every finding works on those.

mod parse;
pub(crate) mod secrets;
mod substitute;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

pub use parse::MAX_DEPTH;
pub(crate) use parse::parse;

/// One file of an application, as read.
#[derive(Clone)]
pub struct SourceFile {
    name: String,
    text: String,
    /// Byte offset of the first character of each line.
    lines: Vec<usize>,
    /// Byte ranges of secrets written out in the file; a rendered snippet shows stars there.
    secrets: Vec<(usize, usize)>,
}

impl fmt::Debug for SourceFile {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({:?}, {} bytes)", self.name, self.text.len())
    }
}

impl SourceFile {
    fn new(name: String, text: String) -> Self {
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            name,
            text,
            lines,
            secrets: Vec::new(),
        }
    }

    /// The name that findings print: the path as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text as it stands in the file, before any substitution.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with every secret that is written out in it replaced by stars, byte for byte, so that offsets still hold.
    pub fn masked_text(&self) -> String {
        let mut bytes = self.text.clone().into_bytes();
        for &(start, end) in &self.secrets {
            for byte in bytes.iter_mut().take(end).skip(start) {
                if *byte != b'\n' && *byte != b'\r' {
                    *byte = b'*';
                }
            }
        }
        // The ranges are those of whole scalars, so characters are never cut.
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines.partition_point(|&start| start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self
            .text
            .get(start..offset)
            .map_or(0, |head| head.chars().count())
            + 1;
        Position { line, column }
    }
}

/// A place in a file for people and editors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// Which file of an application; an index into its [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub usize);

/// A byte range in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The smallest range that covers both; the other file's range is ignored.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        if self.file != other.file {
            return self;
        }
        Self {
            file: self.file,
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// Whether it covers no byte.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// All files of an application, in the order in which they were given.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
}

impl Sources {
    /// No file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file whose text is at hand.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> FileId {
        self.files.push(SourceFile::new(name.into(), text.into()));
        FileId(self.files.len() - 1)
    }

    /// The file of that index.
    pub fn get(&self, file: FileId) -> Option<&SourceFile> {
        self.files.get(file.0)
    }

    /// All files with their index.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &SourceFile)> {
        self.files
            .iter()
            .enumerate()
            .map(|(index, file)| (FileId(index), file))
    }

    /// The text that a span covers, as it stands in the file.
    pub fn slice(&self, span: Span) -> &str {
        self.get(span.file)
            .and_then(|file| file.text.get(span.start..span.end))
            .unwrap_or_default()
    }

    /// Remembers that a secret stands there in plain text, so that no rendering shows it.
    pub(crate) fn hide(&mut self, span: Span) {
        if let Some(file) = self.files.get_mut(span.file.0)
            && file.text.get(span.start..span.end).is_some()
        {
            file.secrets.push((span.start, span.end));
        }
    }
}

/// Where the text of one module comes from.
#[derive(Clone)]
pub enum Source {
    /// A file to read.
    File(std::path::PathBuf),
    /// A text with the name that findings print.
    Text {
        /// The name.
        name: String,
        /// The YAML.
        text: String,
    },
}

impl Source {
    /// A file to read.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::File(path.as_ref().to_path_buf())
    }

    /// A text that is at hand, with the name that findings print.
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Text {
            name: name.into(),
            text: text.into(),
        }
    }
}

/// Where `${VAR}` takes its values from.
#[derive(Clone)]
pub struct Environment(Option<BTreeMap<String, String>>);

impl Environment {
    /// The environment of this process. A variable that is not UTF-8 counts as missing.
    pub fn process() -> Self {
        Self(None)
    }

    /// Exactly these variables: for tests, and for files that are validated for another place.
    pub fn of<K: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self(Some(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        ))
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        match &self.0 {
            Some(variables) => variables.get(name).cloned(),
            None => std::env::var(name).ok(),
        }
    }
}

/// A variable of the environment that a text refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What stands in for it where it is not set; without, it must be set.
    pub default: Option<String>,
}

/// One document of a file: the value between two `---`.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its value.
    pub root: Node,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where the value stands; for a map or a list from its first key or item to the end of its last.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text, a number, a boolean: which of them is for the reader to say, who knows what the field wants.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file, without the repetitions of a key.
    Map(Vec<Entry>),
    /// A value that cannot be read and has its finding already; nothing more is said of it.
    Unreadable,
}

/// One scalar.
#[derive(Clone)]
pub struct Scalar {
    /// The value after substitution. It may hold a secret: never print it.
    pub text: String,
    /// The value before substitution, with `${VAR}` as written: what findings may show.
    pub written: String,
    /// Whether it stood in quotes or in a block, and so is text whatever it looks like.
    pub quoted: bool,
    /// Whether it stands without quotes in more than one line, which is seldom meant.
    pub folded: bool,
}

impl Scalar {
    /// What findings show of it: the beginning of the value before substitution.
    pub fn shown(&self) -> Cow<'_, str> {
        const LONGEST: usize = 80;
        match self.written.char_indices().nth(LONGEST) {
            None => Cow::Borrowed(&self.written),
            Some((end, _)) => Cow::Owned(format!("{}…", &self.written[..end])),
        }
    }
}

impl fmt::Debug for Scalar {
    /// Without the value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scalar(…)")
    }
}

/// One entry of a map.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The entries, when it is a map.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items, when it is a list.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entry of that key, when it is a map that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of that key, when it is a map that has it and the value is not null.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key)
            .map(|entry| &entry.value)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// The scalar, when it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The node at a path such as `topics[0].valueType`, from here.
    pub fn at(&self, path: &str) -> Option<&Self> {
        let mut node = self;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let (key, indices) = part.split_once('[').unwrap_or((part, ""));
            if !key.is_empty() {
                node = &node.entry(key)?.value;
            }
            for index in indices.split('[').filter(|index| !index.is_empty()) {
                let index: usize = index.strip_suffix(']')?.parse().ok()?;
                node = node.items().get(index)?;
            }
        }
        Some(node)
    }

    /// What kind of YAML it is, for messages.
    pub fn describe(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Unreadable => "a value that cannot be read",
        }
    }
}
