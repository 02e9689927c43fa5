//! Log lines for programs: an object each.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::clock;
use crate::engine::current::{Current, Doing, current};

/// The events themselves.
pub(super) struct JsonEvents;
/// The fields of spans.
pub(super) struct JsonFields;

/// The members of an object, without its braces.
#[derive(Debug, Default)]
pub(super) struct Members(String);

impl Members {
    fn name(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        push_string(&mut self.0, name);
        self.0.push(':');
    }

    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        push_string(&mut self.0, value);
        self
    }

    pub(super) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.raw(name, format_args!("{value}"))
    }

    /// A value that is JSON already.
    pub(super) fn raw(&mut self, name: &str, value: fmt::Arguments<'_>) -> &mut Self {
        self.name(name);
        // Writing into a string cannot fail.
        let _ = self.0.write_fmt(value);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0)
    }
}

fn push_string(out: &mut String, text: &str) {
    // A string always serializes.
    out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()));
}

/// Takes down the fields of an event or span; the message by itself.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Members,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.others.text(name_of(field), value);
        }
    }
}

fn name_of(field: &Field) -> &'static str {
    let name = field.name();
    name.strip_prefix("r#").unwrap_or(name)
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // What cannot be formatted is there as far as it has come.
        let _ = write!(text, "{value:?}");
        self.put(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.raw(name_of(field), format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.number(name_of(field), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.raw(name_of(field), format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if let Some(number) = serde_json::Number::from_f64(value) {
            self.others.raw(name_of(field), format_args!("{number}"));
        } else {
            self.others.text(name_of(field), &value.to_string());
        }
    }
}

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut all = Fields::default();
        fields.record(&mut all);
        if !all.message.is_empty() {
            all.others.text("message", &all.message);
        }
        writer.write_str(&all.others.0)
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        let mut all = Fields::default();
        fields.record(&mut all);
        if !current.fields.is_empty() && !all.others.is_empty() {
            current.fields.push(',');
        }
        current.as_writer().write_str(&all.others.0)
    }
}

/// What a line begins with.
pub(super) fn head(
    level: Level,
    target: &str,
    message: &str,
    current: Option<&Current>,
) -> Members {
    let mut line = Members::default();
    line.text("timestamp", &clock::system_time().to_string())
        .text("level", level.as_str())
        .text("target", target)
        .text("message", message);
    let Some(current) = current else { return line };
    match &current.doing {
        Doing::Handler {
            function,
            id,
            epoch,
        } => {
            line.text("function", function)
                .text("id", id)
                .number("epoch", *epoch);
        }
        Doing::Operation(address) => {
            line.text("function", address.function().as_str())
                .text("id", address.id());
        }
        Doing::Routing(ingress) => {
            line.text("ingress", ingress);
        }
    }
    if let Some(trace) = &current.trace {
        line.text("trace_id", &hexadecimal(&trace.trace_id))
            .text("span_id", &hexadecimal(&trace.span_id));
    }
    line
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl<S, N> FormatEvent<S, N> for JsonEvents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut line = head(
            *metadata.level(),
            metadata.target(),
            &fields.message,
            current().as_ref(),
        );
        if !fields.others.is_empty() {
            line.raw("fields", format_args!("{}", fields.others));
        }
        let mut spans = Vec::new();
        for span in ctx.event_scope().into_iter().flat_map(Scope::from_root) {
            let mut of_span = Members::default();
            of_span.text("name", span.name());
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                of_span.raw("fields", format_args!("{{{}}}", fields.fields));
            }
            spans.push(of_span.to_string());
        }
        if !spans.is_empty() {
            line.raw("spans", format_args!("[{}]", spans.join(",")));
        }
        writeln!(writer, "{line}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::Registry;
    use tracing_subscriber::fmt::{Layer, MakeWriter};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::engine::current::{TraceIds, operation_of};
    use crate::id::{Address, TypeName};

    #[derive(Debug, Clone, Default)]
    pub(in crate::logging) struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    type Lines = Layer<
        Registry,
        tracing_subscriber::fmt::format::DefaultFields,
        tracing_subscriber::fmt::format::Format,
        Written,
    >;

    /// What is written, on this thread, while something is said.
    pub(in crate::logging) fn lines_of<L>(
        formatted: impl FnOnce(Lines) -> L,
        say: impl FnOnce(),
    ) -> String
    where
        L: tracing_subscriber::Layer<Registry> + Send + Sync,
    {
        let written = Written::default();
        let lines = tracing_subscriber::fmt::layer().with_writer(written.clone());
        let subscriber = tracing_subscriber::registry().with(formatted(lines));
        tracing::subscriber::with_default(subscriber, say);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn events(say: impl FnOnce()) -> Vec<Value> {
        let lines = lines_of(
            |lines| lines.fmt_fields(JsonFields).event_format(JsonEvents),
            say,
        );
        lines
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    #[test]
    fn an_event_is_an_object_in_a_line() {
        let error = io::Error::other("no \"space\"\n");
        let events = events(|| {
            tracing::warn!(
                text = "a\nb\u{1b}",
                number = -3,
                large = u64::MAX,
                share = 0.25,
                none = f64::NAN,
                yes = true,
                r#type = ?Some(1),
                error = &error as &dyn std::error::Error,
                shown = %"c\"d",
                timestamp = 1,
                "sold {}",
                "out"
            );
            tracing::info!(only = 1);
        });
        let mut first = events[0].clone();
        let time = first.as_object_mut().unwrap().remove("timestamp").unwrap();
        let time = time.as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        assert_eq!(
            first,
            json!({
                "level": "WARN",
                "target": "statefun_core::logging::json::tests",
                "message": "sold out",
                "fields": {
                    "text": "a\nb\u{1b}", "number": -3, "large": u64::MAX, "share": 0.25, "none": "NaN", "yes": true,
                    "type": "Some(1)", "error": "no \"space\"\n", "shown": "c\"d", "timestamp": 1
                }
            })
        );
        assert_eq!(events[1]["message"], "");
    }

    #[test]
    fn spans_stand_beside_the_event_outermost_first() {
        let events = events(|| {
            let outer = tracing::info_span!("cart", number = 7, total = tracing::field::Empty);
            let _outer = outer.enter();
            let _inner = tracing::info_span!("line").entered();
            outer.record("total", 12);
            tracing::info!("added");
        });
        assert_eq!(
            events[0]["spans"],
            json!([{"name": "cart", "fields": {"number": 7, "total": 12}}, {"name": "line"}])
        );
    }

    struct Unwilling;
    impl fmt::Display for Unwilling {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("as far as")?;
            Err(fmt::Error)
        }
    }

    #[test]
    fn a_value_that_cannot_be_formatted_does_not_take_the_line_with_it() {
        let events = events(|| tracing::info!(value = %Unwilling, after = 1, "said"));
        assert_eq!(
            events[0]["fields"],
            json!({"value": "as far as", "after": 1})
        );
    }

    #[test]
    fn a_line_says_what_it_is_about() {
        let line = |current: &Current| -> Value {
            serde_json::from_str(&head(Level::INFO, "app", "said", Some(current)).to_string())
                .unwrap()
        };
        let handler = line(&Current {
            doing: Doing::Handler {
                function: "example/greeter".to_owned(),
                id: "bob \"the\" builder\n".to_owned(),
                epoch: 812,
            },
            trace: Some(TraceIds {
                trace_id: *b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36",
                span_id: *b"\x00\xf0\x67\xaa\x0b\xa9\x02\xb7",
            }),
        });
        assert_eq!(handler["function"], "example/greeter");
        assert_eq!(handler["id"], "bob \"the\" builder\n");
        assert_eq!(handler["epoch"], 812);
        assert_eq!(handler["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(handler["span_id"], "00f067aa0ba902b7");
        let router = line(&Current {
            doing: Doing::Routing("example/greets".to_owned()),
            trace: None,
        });
        assert_eq!(
            (&router["ingress"], &router["trace_id"]),
            (&json!("example/greets"), &Value::Null)
        );
    }

    #[test]
    fn an_operation_is_about_the_address_that_has_spawned_it() {
        let address = Address::new(TypeName::parse("tests/json").unwrap(), "ada");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let events = events(|| {
            runtime.block_on(operation_of(address, None, async {
                tracing::info!("asked");
            }));
            tracing::info!("outside");
        });
        assert_eq!(
            (&events[0]["function"], &events[0]["id"]),
            (&json!("tests/json"), &json!("ada"))
        );
        assert_eq!(events[1].get("function"), None);
    }
}
