//! What comes in, what functions tell each other, and what goes out.

use statefun::prelude::*;

/// A passenger wants to be driven.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "rides/RideRequest")]
pub(crate) struct RideRequest {
    /// The cell of the map where the passenger stands.
    pub(crate) cell: String,
}

/// A driver is in a cell of the map, free for a ride.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "rides/Arrived")]
pub(crate) struct Arrived {
    pub(crate) cell: String,
}

/// A driver's ride is over.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "rides/DroppedOff")]
pub(crate) struct DroppedOff {
    /// Where.
    pub(crate) cell: String,
}

/// To a ride: begin.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "rides/Begin", format = "msgpack")]
pub(crate) struct Begin {
    pub(crate) passenger: String,
    pub(crate) cell: String,
}

/// To a cell: a ride needs a driver.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "rides/FindDriver", format = "msgpack")]
pub(crate) struct FindDriver {
    pub(crate) ride: String,
}

/// To a cell: a driver comes or goes.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "rides/Presence", format = "msgpack")]
pub(crate) struct Presence {
    pub(crate) driver: String,
    pub(crate) here: bool,
}

/// To a driver: drive.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "rides/Assign", format = "msgpack")]
pub(crate) struct Assign {
    pub(crate) ride: String,
    pub(crate) cell: String,
}

/// From a driver to a ride.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "rides/Answer", format = "msgpack")]
pub(crate) enum Answer {
    /// The driver comes.
    Accepted { driver: String },
    /// The driver is busy or elsewhere.
    Refused,
    /// The passenger is there.
    Done,
}

/// To a passenger: the ride is over.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "rides/Finished", format = "msgpack")]
pub(crate) struct Finished {}

/// What becomes of a ride.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "rides/Update")]
pub(crate) struct Update {
    pub(crate) ride: String,
    pub(crate) passenger: String,
    pub(crate) status: Status,
}

/// How far a ride is.
#[persisted]
#[derive(Debug, PartialEq)]
pub(crate) enum Status {
    Searching,
    OnTheWay { driver: String },
    Finished,
}

/// Where updates leave the application: `id` of an egress in module.yaml.
pub(crate) const UPDATES: EgressId<Update> = EgressId::new("rides/updates");
