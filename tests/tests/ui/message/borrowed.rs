use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet<'a> {
    name: std::borrow::Cow<'a, str>,
}

fn main() {}
