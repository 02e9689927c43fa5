//! Values that StateFun accepts and reads as something else than they say.

use super::codes;
use super::finding::Finding;
use super::model::KindInfo;
use super::source::Node;
use super::units::parse_duration;

/// Looks for them in a document of one of StateFun's kinds.
pub(crate) fn look(kind: &KindInfo, root: &Node, findings: &mut Vec<Finding>) {
    if kind.name == "io.statefun.kafka.v1/egress" {
        transaction_timeout(root, findings);
    }
}

/// StateFun's documentation shows `transactionTimeoutMillis: 15min`. The field is a number; the text is read as 0.
fn transaction_timeout(root: &Node, findings: &mut Vec<Finding>) {
    let path = "spec.deliverySemantic.transactionTimeoutMillis";
    let Some(node) = root.at(path) else { return };
    let Some(scalar) = node.scalar() else { return };
    if scalar.text.trim().parse::<u64>().is_ok() {
        return;
    }
    let help = match parse_duration(&scalar.text) {
        Ok(duration) => format!(
            "write `transactionTimeout: {}` or `transactionTimeoutMillis: {}`",
            scalar.shown(),
            duration.as_millis()
        ),
        Err(_) => {
            "write `transactionTimeout: 15min` or `transactionTimeoutMillis: 900000`".to_owned()
        }
    };
    findings.push(
        Finding::new(
            codes::TRAP,
            format!(
                "`transactionTimeoutMillis` is a number of milliseconds; StateFun reads `{}` as 0",
                scalar.shown()
            ),
        )
        .at(node.span, "read as 0")
        .help(help),
    );
}
