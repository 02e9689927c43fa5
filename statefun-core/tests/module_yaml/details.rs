//! What loading gives beside findings.
