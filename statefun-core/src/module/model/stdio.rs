//! `io.statefun.stdio.v1`: JSON lines from standard input and to standard output.

use super::names::{ComponentId, FieldName, FunctionType, RouterName, ValueType};
use super::parts::{JsonFormat, OnError, PointerKey};
use crate::module::schema::record;

record! {
    /// Reads records from standard input, one per line. What was read before a crash cannot be read again.
    pub struct StdioIngress {
        /// Identifier of the ingress, `namespace/name`.
        pub id: ComponentId => "id",
        /// Layout of the input: `json`, a JSON value per line.
        pub format: JsonFormat => "format" = "json",
        /// Type of every record.
        pub value_type: ValueType => "valueType",
        /// Where the id of the target stands: `{pointer: /json/pointer}`. Needed with `targets`.
        pub id_from: Option<PointerKey> => "idFrom",
        /// Field that holds the W3C `traceparent` of the span that a record comes from. Where tracing is on,
        /// the record is part of that trace; what is no `traceparent` is ignored.
        pub traceparent: Option<FieldName> => "traceparent",
        /// Function types that each get every record; the address is the type and the id that `idFrom` finds.
        pub targets: Vec<FunctionType> => "targets",
        /// Names of the routers that see every record and decide where it goes.
        pub routers: Vec<RouterName> => "routers",
        /// What becomes of a record that cannot be decoded or routed: `fail`, `skip`, or `deadLetter: <egress id>`.
        pub on_error: OnError => "onError" = "fail",
    }
}

record! {
    /// Writes each record to standard output as one line of JSON.
    pub struct StdioEgress {
        /// Identifier of the egress, `namespace/name`.
        pub id: ComponentId => "id",
        /// Field that the W3C `traceparent` of a record is written to. Records whose trace is not recorded do not have it, and what a
        /// record has there itself stays.
        pub traceparent: Option<FieldName> => "traceparent",
    }
}
