//! `io.statefun.playground.v1`: the HTTP connectors of StateFun's playground. They are for trying things out: everybody
//! who reaches the ports may send to any function, and what the egress holds is lost when the process ends.

mod egress;
mod ingress;

pub use egress::PlaygroundEgress;
pub use ingress::PlaygroundIngress;

/// The host that they listen on, as StateFun's do: every address of the machine.
const HOST: &str = "0.0.0.0";
