//! Log lines for people.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::engine::current::{Current, Doing, current};

/// What the engine says of itself names what it is about by its own fields.
const OF_THE_ENGINE: &str = "statefun_core::";

/// The events themselves.
pub(super) struct HumanEvents;
/// The fields of spans.
pub(super) struct HumanFields;

/// Shows control characters, and those that change the direction of text, as an escape.
struct Visible<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Visible<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        match c {
            '\n' => self.0.write_str("\\n"),
            '\t' => self.0.write_str("\\t"),
            '\r' => self.0.write_str("\\r"),
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                write!(self.0, "{}", c.escape_unicode())
            }
            c if c.is_control() => write!(self.0, "{}", c.escape_unicode()),
            c => self.0.write_char(c),
        }
    }
}

/// The text as it may be shown on a terminal; its line ends stay.
pub(super) fn visible_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            shown.push('\n');
        }
        // Writing into a string cannot fail.
        let _ = Visible(&mut shown).write_str(line);
    }
    shown
}

const BOLD: &str = "1";
const DIM: &str = "2";
const ITALIC: &str = "3";

fn styled(
    writer: &mut Writer<'_>,
    style: &str,
    write: impl FnOnce(&mut Writer<'_>) -> fmt::Result,
) -> fmt::Result {
    if !writer.has_ansi_escapes() {
        return write(writer);
    }
    write!(writer, "\u{1b}[{style}m")?;
    write(writer)?;
    writer.write_str("\u{1b}[0m")
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        Level::DEBUG => "34",
        Level::TRACE => "35",
    }
}

/// Writes a message as it is, and other fields as `name=value`.
struct Fields<'a, 'writer> {
    writer: &'a mut Writer<'writer>,
    first: bool,
}

impl Fields<'_, '_> {
    /// A value whose own formatting fails is shown as far as it has come.
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if !std::mem::take(&mut self.first) {
            let _ = self.writer.write_char(' ');
        }
        if field.name() != "message" {
            let name = field.name();
            let name = name.strip_prefix("r#").unwrap_or(name);
            let _ = styled(self.writer, ITALIC, |writer| writer.write_str(name));
            let _ = styled(self.writer, DIM, |writer| writer.write_char('='));
        }
        let _ = Visible(self.writer).write_fmt(value);
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.put(field, format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }
}

impl<'writer> FormatFields<'writer> for HumanFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        fields.record(&mut Fields {
            writer: &mut writer,
            first: true,
        });
        Ok(())
    }
}

/// Whose line it is.
fn put_doing(writer: &mut Writer<'_>, current: &Current) -> fmt::Result {
    styled(writer, BOLD, |writer| {
        let mut shown = Visible(writer);
        match &current.doing {
            Doing::Handler { function, id, .. } => write!(shown, "{function}/{id}"),
            Doing::Operation(address) => write!(shown, "{address}"),
            Doing::Routing(ingress) => write!(shown, "{ingress}"),
        }
    })?;
    writer.write_str(": ")
}

/// The beginning of the trace's id: enough to find the others of it.
fn put_trace(writer: &mut Writer<'_>, current: &Current) -> fmt::Result {
    let Some(trace) = &current.trace else {
        return Ok(());
    };
    writer.write_char(' ')?;
    styled(writer, DIM, |writer| {
        writer.write_str("trace=")?;
        let mut first = trace.trace_id.iter().take(4);
        first.try_for_each(|byte| write!(writer, "{byte:02x}"))
    })
}

/// All but what is in spans and in the event.
fn put_head(writer: &mut Writer<'_>, level: Level) -> fmt::Result {
    styled(writer, DIM, |writer| SystemTime.format_time(writer))?;
    writer.write_char(' ')?;
    styled(writer, colour(level), |writer| write!(writer, "{level:>5}"))?;
    writer.write_char(' ')
}

impl<S, N> FormatEvent<S, N> for HumanEvents
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
        let metadata = event.metadata();
        put_head(&mut writer, *metadata.level())?;
        let current = current().filter(|_| !metadata.target().starts_with(OF_THE_ENGINE));
        if let Some(current) = &current {
            put_doing(&mut writer, current)?;
        }
        for span in ctx.event_scope().into_iter().flat_map(Scope::from_root) {
            styled(&mut writer, BOLD, |writer| writer.write_str(span.name()))?;
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, "{{{}}}", fields.fields)?;
            }
            writer.write_str(": ")?;
        }
        event.record(&mut Fields {
            writer: &mut writer,
            first: true,
        });
        if let Some(current) = &current {
            put_trace(&mut writer, current)?;
        }
        writer.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::current::TraceIds;
    use crate::logging::json::tests::lines_of;

    fn lines(say: impl FnOnce()) -> String {
        let said = lines_of(
            |lines| {
                lines
                    .with_ansi(false)
                    .fmt_fields(HumanFields)
                    .event_format(HumanEvents)
            },
            say,
        );
        // Without the time, which every line begins with.
        let without_time = |line: &str| line.split_once(' ').unwrap().1.to_owned();
        said.lines()
            .map(without_time)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn fields_follow_the_message_and_spans_go_before_it() {
        let said = lines(|| {
            let _span = tracing::info_span!("checkout", cart = 7).entered();
            tracing::warn!(product = "tea", price = %1.5, r#type = true, "sold {}", "out");
        });
        assert_eq!(
            said,
            " WARN checkout{cart=7}: sold out product=\"tea\" price=1.5 type=true"
        );
    }

    #[test]
    fn what_comes_from_outside_forges_no_line() {
        let said = lines(|| {
            tracing::info!(path = %"a\nb", quoted = "c\nd", "\u{1b}[31mred\r\nERROR forged \u{202e}");
        });
        assert_eq!(
            said,
            " INFO \\u{1b}[31mred\\r\\nERROR forged \\u{202e} path=a\\nb quoted=\"c\\nd\""
        );
        assert_eq!(
            visible_lines("a\u{7}\nb\u{1b}[0m\n"),
            "a\\u{7}\nb\\u{1b}[0m\n"
        );
    }

    #[test]
    fn a_line_says_whose_it_is() {
        let mut text = String::new();
        let current = Current {
            doing: Doing::Handler {
                function: "example/greeter".to_owned(),
                id: "bob\n".to_owned(),
                epoch: 7,
            },
            trace: Some(TraceIds {
                trace_id: [0x4b; 16],
                span_id: [1; 8],
            }),
        };
        put_doing(&mut Writer::new(&mut text), &current).unwrap();
        put_trace(&mut Writer::new(&mut text), &current).unwrap();
        assert_eq!(text, "example/greeter/bob\\n:  trace=4b4b4b4b");
    }
}
