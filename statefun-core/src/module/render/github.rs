//! Findings as GitHub's workflow commands: `::error file=…,line=…,col=…,title=…::message`.

use crate::module::finding::Findings;
use crate::module::source::Sources;

pub(super) fn render(findings: &Findings, sources: &Sources) -> String {
    let mut out = String::new();
    for finding in findings {
        let mut properties = Vec::new();
        if let Some(label) = &finding.primary
            && let Some(file) = sources.get(label.span.file)
        {
            let start = file.position(label.span.start);
            let end = file.position(label.span.end);
            properties.push(format!("file={}", property(file.name())));
            properties.push(format!("line={}", start.line));
            properties.push(format!("col={}", start.column));
            properties.push(format!("endLine={}", end.line));
            // GitHub ignores columns of a range over several lines.
            if end.line == start.line {
                properties.push(format!("endColumn={}", end.column));
            }
        }
        properties.push(format!(
            "title={}",
            property(&format!("{} {}", finding.code.id, finding.code.title))
        ));
        let help = finding
            .help
            .as_ref()
            .map(|help| format!("\nhelp: {help}"))
            .unwrap_or_default();
        out.push_str("::");
        out.push_str(finding.severity().as_str());
        out.push(' ');
        out.push_str(&properties.join(","));
        out.push_str("::");
        out.push_str(&data(&format!("{}{help}", finding.message)));
        out.push('\n');
    }
    out
}

/// The message of a command ends at a line end, and `%` begins an escape.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// In a property `,` and `:` separate as well.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::codes;
    use crate::module::finding::Finding;
    use crate::module::source::Span;

    #[test]
    fn what_github_reads_specially_is_escaped() {
        let mut sources = Sources::new();
        let file = sources.add("a,b:c%.yaml", "kind: x\n");
        let span = Span {
            file,
            start: 6,
            end: 7,
        };
        let finding =
            Finding::new(codes::UNKNOWN_KIND, "100% wrong,\r\n::error::not a command").at(span, "");
        let text = render(&Findings::new(vec![finding]), &sources);
        assert_eq!(
            text,
            "::error file=a%2Cb%3Ac%25.yaml,line=1,col=7,endLine=1,endColumn=8,title=SF0202 unknown kind\
             ::100%25 wrong,%0D%0A::error::not a command\n"
        );
    }
}
