//! Ride sharing: drivers, passengers, rides and the cells of a city are stateful functions that message each other.
//!
//! | function | one per | keeps |
//! |---|---|---|
//! | [`Passenger`](functions::passenger::Passenger) | passenger | the current ride, who waits for news of it |
//! | [`Ride`](functions::ride::Ride) | ride | how far it has come; for an hour, how it ended |
//! | [`Driver`](functions::driver::Driver) | driver | where they are, what they are doing |
//! | [`GeoCell`](functions::cell::GeoCell) | cell of the grid | which free drivers are there; the silent ones expire |
//! | [`City`](functions::city::City) | city | all cells, and counters whose names the configuration gives |
//! | [`Journal`](functions::journal::Journal) | ride | what it was told, of whatever type |
//!
//! Beside module.yaml, [`RideSharing`] binds what is made in code: functions with factories, the [`metronome`] ingress and
//! the [`board`] egress.

pub mod audit;
pub mod board;
pub mod functions;
pub mod grid;
pub mod messages;
pub mod metronome;
pub mod module;
pub mod routers;
pub mod settings;

pub use module::RideSharing;

/// The application, ready to run.
pub fn app() -> statefun::App {
    statefun::App::new().module(RideSharing)
}
