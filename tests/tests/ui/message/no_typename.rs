use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message]
struct One {}

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(format = "json")]
struct Two {}

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename)]
struct Three {}

fn main() {}
