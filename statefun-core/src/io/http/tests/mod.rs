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
mod webhook;
