use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Page")]
struct Page<T> {
    items: Vec<T>,
}

fn main() {}
