//! The HTTP connectors over real sockets, in front of real workers that keep their epochs in memory.

mod app;
mod client;
mod examples;
mod ingress;
mod malformed;
mod playground;
mod receiver;
mod requests;
mod stopping;
#[cfg(feature = "tls")]
mod tls;
mod webhook;

/// Runs something beside the test.
fn thread<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new()
        .name("beside the test".to_owned())
        .spawn(run)
        .unwrap()
}
