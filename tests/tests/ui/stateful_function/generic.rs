use statefun_core::prelude::*;

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Greet")]
struct Greet {}

#[stateful_function(typename = "example/greeter", accepts(Greet))]
struct Greeter<T> {
    inner: std::marker::PhantomData<T>,
}

fn main() {}
