use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[stateful_function(
    typename("example/greeter"),
    accepts = Greet,
    dynamic_sends = true,
    max_queue = "10",
    max_fan_out = -1,
    max_message_bytes = 1_000u32,
    max_state_bytes =,
    egress,
    crate = "statefun_core",
)]
struct Greeter;

fn main() {}
