//! `io.statefun.playground.v1`: the HTTP connectors of StateFun's playground.

use crate::module::schema::record;

/// The id that every playground ingress has.
pub const PLAYGROUND_INGRESS: &str = "io.statefun.playground/ingress";

/// The id that every playground egress has: what functions write to.
pub const PLAYGROUND_EGRESS: &str = "io.statefun.playground/egress";

/// The type of the records that functions write there: JSON with `topic` and `payload`.
pub const PLAYGROUND_EGRESS_RECORD: &str = "io.statefun.playground/EgressRecord";

record! {
    /// Takes messages in by `PUT /{namespace}/{name}/{id}`; the body is the value and
    /// `Content-Type: application/vnd.{typename}` names its type.
    pub struct PlaygroundIngress {
        /// Port to listen on.
        pub port: u16 => "port",
    }
}

record! {
    /// Hands records out: `GET /{topic}` takes the next record's payload. Functions write values of type
    /// `io.statefun.playground/EgressRecord` to the egress `io.statefun.playground/egress`.
    pub struct PlaygroundEgress {
        /// Port to listen on.
        pub port: u16 => "port",
        /// The topics that there are; another one is answered with 405.
        pub topics: Vec<String> => "topics",
    }
}
