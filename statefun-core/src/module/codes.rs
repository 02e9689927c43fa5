//! Every kind of finding: its stable code, its severity, and a paragraph that explains it.
//!
//! A code is never reused and never changes its meaning. `SF01..` is reading, `SF02..` one document by itself,
//! `SF03..` the wiring between documents and code.

use super::finding::Severity;

/// One kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// As printed: `SF0101`.
    pub id: &'static str,
    /// How much such a finding matters.
    pub severity: Severity,
    /// In a few words.
    pub title: &'static str,
    /// In a paragraph.
    pub explanation: &'static str,
    /// Whether such a finding leaves open what is wired to what, so that nothing can be called unused or unreachable.
    pub(crate) hides_wiring: bool,
}

/// The code of that id, as `explain` needs it.
pub fn find(id: &str) -> Option<&'static Code> {
    ALL.iter()
        .copied()
        .find(|code| code.id.eq_ignore_ascii_case(id))
}

macro_rules! codes {
    ($($name:ident = $id:literal, $severity:ident $(, $hides:ident)?, $title:literal, $explanation:literal;)*) => {
        $(
            #[doc = concat!("`", $id, "`: ", $title, ". ", $explanation)]
            pub const $name: &Code = &Code {
                id: $id,
                severity: Severity::$severity,
                title: $title,
                explanation: $explanation,
                hides_wiring: codes!(@hides $($hides)?),
            };
        )*

        /// All of them, in the order of their ids.
        pub const ALL: &[&Code] = &[$($name),*];
    };
    (@hides) => { false };
    (@hides hides) => { true };
}

codes! {
    UNREADABLE_FILE = "SF0101", Error, hides, "unreadable file",
        "A file of the application cannot be read: it is missing, is not a file, is not UTF-8 text, or may not be opened.";
    INVALID_YAML = "SF0102", Error, hides, "invalid YAML",
        "The text does not follow the grammar of YAML, or uses a part of YAML that has no meaning in wiring, such as custom tags. What follows the place in the file has not been read.";
    DUPLICATE_KEY = "SF0103", Error, hides, "duplicate key",
        "A key stands twice in one map. Most YAML readers silently keep one of the two values; which one you meant is not for a program to guess. Often a `---` between two documents is missing.";
    MISSING_VARIABLE = "SF0104", Error, "missing environment variable",
        "The file refers to an environment variable with `${NAME}`, it is not set, and the reference gives no default. Set it, or write `${NAME:-default}`.";
    MALFORMED_VARIABLE = "SF0105", Error, "malformed variable",
        "A `${` begins a reference to an environment variable, but what follows is not `NAME}` or `NAME:-default}`. Names consist of letters, digits and `_`. For a literal `${` write `$${`.";
    NO_DOCUMENT = "SF0106", Warning, hides, "nothing in it",
        "The file holds no document, so the application gets nothing from it.";

    NOT_A_COMPONENT = "SF0201", Error, hides, "not a component",
        "Each document of module.yaml is a map with the two keys `kind` and `spec`. This one is something else.";
    UNKNOWN_KIND = "SF0202", Error, hides, "unknown kind",
        "No component has this kind. A kind is `namespace.version/name`, as in `io.statefun.http.v1/ingress`.";
    UNAVAILABLE_KIND = "SF0203", Error, "kind not in this version",
        "The kind is known, most likely from a module.yaml of Apache StateFun, but this version of statefun has no connector for it yet.";
    OLD_FORMAT = "SF0204", Error, hides, "format of StateFun 3.0",
        "The file has the single-document layout of StateFun 3.0 and before, with `version` and `module`. Since StateFun 3.1 each component is a document of its own with `kind` and `spec`.";
    UNKNOWN_FIELD = "SF0205", Error, hides, "unknown field",
        "The component has no such field. A field that is not known would be ignored, and what it was meant to set would not be set.";
    MISSING_FIELD = "SF0206", Error, hides, "missing field",
        "The component cannot work without this field, and it has no default.";
    WRONG_TYPE = "SF0207", Error, hides, "wrong type",
        "The field wants another kind of YAML value: a list, a map, a number, a boolean or text.";
    UNKNOWN_VALUE = "SF0208", Error, "unknown value",
        "The field takes one of a few words, and this is none of them.";
    BAD_DURATION = "SF0209", Error, "bad duration",
        "A duration is a whole number and a unit, as in `30s`, `1 min`, `100 ms` or `24h`. All units that Apache Flink reads are known. A number without a unit is refused: Flink would take it for milliseconds, which is seldom what was meant.";
    BAD_SIZE = "SF0210", Error, "bad size",
        "A size is a whole number and a unit, as in `1MiB`, `512 kb` or `2g`; without a unit it counts bytes. All units are powers of 1,024.";
    BAD_NAME = "SF0211", Error, hides, "bad name",
        "Identifiers and type names have the form `namespace/name`, without blanks. Both parts are needed; the last `/` separates them.";
    BAD_POINTER = "SF0212", Error, "bad JSON pointer",
        "A JSON pointer (RFC 6901) is a `/` before each step, as in `/order/id` or `/lines/0/sku`. In a step, `~1` stands for `/` and `~0` for `~`.";
    BAD_PATH = "SF0213", Error, "bad path",
        "The path of an HTTP ingress begins with `/`. A whole segment may be `{id}` or `{type}`, each at most once; other segments are letters, digits and `-._~`.";
    BAD_URL = "SF0214", Error, "bad URL",
        "The URL must be absolute, `http` or `https`, and name a host.";
    BAD_ADDRESS = "SF0215", Error, "bad address",
        "An address to listen on is `host:port`, as in `127.0.0.1:8080`, `[::1]:8080` or `0.0.0.0:80`. Port 0 takes any free port.";
    OUT_OF_RANGE = "SF0216", Error, "number out of range",
        "The number is outside of what the field can take.";
    BAD_HEADER = "SF0217", Error, "bad HTTP header",
        "The name of a header consists of letters, digits and a few signs such as `-`; its value has no line ends. Headers that the connector itself sets cannot be given.";
    CONTRADICTION = "SF0218", Error, "contradicting fields",
        "Two fields of one component cannot both hold.";
    INCOMPLETE = "SF0219", Error, "incomplete settings",
        "What the component is told needs another field, which is missing.";
    BAD_TEXT = "SF0220", Error, "bad text",
        "The text has another length or other characters than the field can take.";
    TRAP = "SF0221", Error, "value that is not read as meant",
        "StateFun accepts this value and reads something else than it says.";
    UNREADABLE_SPEC = "SF0222", Error, "spec not understood",
        "The fields are known and of the right type, and the component still cannot be made from them.";

    DUPLICATE_ID = "SF0301", Error, "duplicate id",
        "Two ingresses, or two egresses, have the same id. An ingress and an egress may share one.";
    UNSERVED_TARGET = "SF0302", Error, hides, "target is not served",
        "Messages are routed to a function type that no function of the application and no endpoint serves. StateFun deploys such a module and fails on the first message.";
    UNKNOWN_ROUTER = "SF0303", Error, hides, "unknown router",
        "An ingress lists a router that the application does not have. A router is a function with `#[router(…)]`; its name is the function's.";
    UNKNOWN_EGRESS = "SF0304", Error, hides, "unknown egress",
        "Code or wiring writes to an egress that no document of module.yaml declares and no code binds.";
    UNUSED_EGRESS = "SF0305", Warning, "unused egress",
        "No function says that it writes to this egress, and nothing uses it for dead letters.";
    NOWHERE_TO_GO = "SF0306", Error, hides, "ingress leads nowhere",
        "An ingress needs `targets` (functions that get each message) or `routers` (code that decides), or both.";
    TYPE_NOT_ACCEPTED = "SF0307", Error, "type not accepted",
        "The value type of an ingress is not among the messages that a target accepts, or not the message that a router reads; or a function writes a type that an egress does not take.";
    WRONG_FORMAT = "SF0308", Error, "format does not suit",
        "The connector reads or writes JSON, and the message has another encoding.";
    DUPLICATE_STATE = "SF0309", Error, "duplicate state name",
        "Two states of one function have the same name, and would overwrite each other.";
    UNREACHABLE_FUNCTION = "SF0310", Warning, "unreachable function",
        "No ingress, router or function sends to this function. It may be meant for later, or a target is missing. Functions that send to addresses known only at run time make this unknowable, and then nothing is reported.";
    ADDRESS_TAKEN = "SF0311", Error, "address used twice",
        "Two components listen on the same port in a way that cannot be shared.";
    SAME_ROUTE = "SF0312", Error, "same path twice",
        "Two HTTP ingresses on one address have paths that match the same requests.";
    SAME_FILE = "SF0313", Error, "file used twice",
        "Two components write the same file, or one reads what another writes.";
    MISSING_FEATURE = "SF0314", Error, "feature not compiled in",
        "The application needs a feature of statefun-core that it was built without.";
    CONFIGURATION_CONFLICT = "SF0315", Error, "conflicting configuration",
        "Two documents give the same key of globalConfiguration different values.";
    DEAD_LETTER_LOOP = "SF0316", Error, "dead letters in a circle",
        "The dead letters of an egress lead back to it, so that what cannot be delivered would go round for ever.";
    ROUTER_OF_OTHER_INGRESS = "SF0317", Error, "router of another ingress",
        "A router says in code which ingress it reads, and that is not the one whose document lists it.";
    UNUSED_ROUTER = "SF0318", Warning, "unused router",
        "No ingress lists this router, and it does not say in code which one it reads.";
    UNKNOWN_INGRESS = "SF0319", Error, "unknown ingress",
        "A router says in code that it reads an ingress that no document declares and no code binds.";
    DUPLICATE_FUNCTION = "SF0320", Error, "duplicate declaration",
        "Two functions have the same type name, or two routers the same name.";
    DESCRIPTION_VERSION = "SF0321", Error, "versions do not fit",
        "The application describes itself in a layout that this version of the tools does not read. Upgrade the older of the two.";
    STDIN_TWICE = "SF0322", Error, "standard input read twice",
        "Only one ingress can read standard input.";
    REPEATED = "SF0323", Error, "listed twice",
        "A list names the same thing twice, so each message would be delivered, or each column written, twice.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_and_unique() {
        for pair in ALL.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} {}", pair[0].id, pair[1].id);
        }
    }

    #[test]
    fn each_is_explained() {
        for code in ALL {
            assert!(
                code.id.len() == 6 && code.id.starts_with("SF"),
                "{}",
                code.id
            );
            assert!(code.explanation.ends_with('.'), "{}", code.id);
            assert!(!code.title.ends_with('.'), "{}", code.id);
            assert_eq!(find(&code.id.to_lowercase()), Some(*code));
        }
        assert_eq!(find("SF9999"), None);
    }
}
