use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/A", format = "JSON")]
struct A {}

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/B", format = "avro")]
struct B {}

fn main() {}
