use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {
    #[message(typename = "example/Name")]
    name: String,
}

fn main() {}
