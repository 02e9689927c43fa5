//! What comes in, what goes out, and what the functions say to each other.
//!
//! Messages of outside clients are JSON, as are the records of egresses; those between functions are MessagePack.

use std::collections::BTreeMap;

use statefun::clock::Timestamp;
use statefun::prelude::*;
use statefun::shape::Shaped;

use crate::grid::CellId;

/// Every step of every ride.
pub const EVENTS: EgressId<RideEvent> = EgressId::new("rides/events");
/// The newest state of the city, for whoever looks at it: [`Board`](crate::board::Board).
pub const BOARD: EgressId<CityReport> = EgressId::new("rides/board");

// ---- From outside ----

/// A passenger wants to ride. With `?wait` the answer is the [`RideStatus`] once a driver is found, or none is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/RequestRide")]
pub struct RequestRide {
    /// Where the passenger stands.
    pub pickup: CellId,
    /// Where the passenger wants to go.
    pub destination: CellId,
}

/// A driver's app says where the driver is. With `?wait` the answer is [`DriverOrders`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/LocationUpdate")]
pub struct LocationUpdate {
    /// Where the driver is.
    pub at: CellId,
    /// Whether the driver decides on each offer by a [`DriverAnswer`]. Otherwise every offer is accepted.
    #[serde(default)]
    pub asks: bool,
}

/// A fleet's gateway says where many drivers are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/FleetLocations")]
pub struct FleetLocations {
    /// Where they are, by driver.
    pub drivers: BTreeMap<String, CellId>,
}

/// A driver who is asked decides. With `?wait` the answer is [`DriverOrders`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/DriverAnswer")]
pub struct DriverAnswer {
    /// Whether the driver takes the ride.
    pub accept: bool,
}

/// Asks a passenger or a ride for its [`RideStatus`]; only of use with `?wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/AskStatus")]
pub struct AskStatus {}

/// Asks a journal for what is written in it; only of use with `?wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/AskJournal")]
pub struct AskJournal {}

// ---- Answers and records ----

/// How far a ride has come.
#[persisted]
#[derive(Debug, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RideState {
    /// There is no such ride, or it ended too long ago.
    #[default]
    Unknown,
    /// A driver is looked for.
    Searching,
    /// A driver is on the way to the passenger.
    Matched,
    /// The passenger is on board.
    Started,
    /// The passenger is where they wanted to go.
    Ended,
    /// It came to nothing.
    Failed,
}

impl RideState {
    /// Whether nothing more will happen to the ride.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Failed)
    }
}

/// How it stands with a ride.
#[persisted]
#[derive(Debug, PartialEq, Eq, Message)]
#[message(typename = "rides/RideStatus")]
pub struct RideStatus {
    /// The ride; empty when a passenger never had one.
    pub ride: String,
    /// How far it has come.
    pub state: RideState,
    /// Who drives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What it costs, in cents, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_cents: Option<u64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a driver is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Shaped)]
#[serde(rename_all = "kebab-case")]
pub enum DriverState {
    /// Not known: has never said where they are.
    Away,
    /// Waiting for a ride.
    Free,
    /// To decide on an offer.
    Asked,
    /// On the way to a passenger.
    ToPickup,
    /// With a passenger.
    Driving,
}

/// What a driver is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/DriverOrders")]
pub struct DriverOrders {
    /// What the driver is doing.
    pub state: DriverState,
    /// For which ride.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ride: Option<String>,
    /// Where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go_to: Option<CellId>,
}

/// One step of a ride, as the file of events has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/RideEvent")]
pub struct RideEvent {
    /// The ride.
    pub ride: String,
    /// The number of the event among those of the ride, from 1 on.
    pub number: u32,
    /// What happened.
    pub event: RideStep,
    /// Whose ride it is.
    pub passenger: String,
    /// Who drives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What it costs, in cents; when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_cents: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: Timestamp,
}

/// What can happen to a ride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Shaped)]
#[serde(rename_all = "kebab-case")]
pub enum RideStep {
    /// A passenger asked for it.
    Requested,
    /// A driver accepted.
    Matched,
    /// The passenger got in.
    Started,
    /// The passenger got out where they wanted to.
    Ended,
    /// It came to nothing.
    Failed,
}

/// The city at one tick of the metronome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/CityReport")]
pub struct CityReport {
    /// The number of the tick, as the metronome counts them.
    pub tick: u64,
    /// How many ticks the city has counted itself: the same number, whatever crashed in between.
    pub ticks_seen: u64,
    /// Cells in which there has been a driver.
    pub cells: u64,
    /// Drivers who are free.
    pub free_drivers: u64,
    /// The counters that the configuration asks for, by name.
    pub metrics: BTreeMap<String, u64>,
}

/// What a journal was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/JournalPages")]
pub struct JournalPages {
    /// The entries, in order.
    pub entries: Vec<JournalEntry>,
}

/// One thing that a journal was told.
#[persisted]
#[derive(Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The type of the value.
    pub typename: String,
    /// The value, as text.
    pub value: String,
}

// ---- Between functions ----

/// Passenger to ride: begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/StartRide", format = "msgpack")]
pub struct StartRide {
    /// Whose ride it is.
    pub passenger: String,
    /// From where.
    pub pickup: CellId,
    /// To where.
    pub destination: CellId,
}

/// Ride to cell: which free driver is there?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/FindDriver", format = "msgpack")]
pub struct FindDriver {
    /// The number of the question, which comes back with the answer.
    pub question: u32,
    /// Drivers who were asked already.
    pub except: Vec<String>,
}

/// Cell to ride: this one, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/CellAnswer", format = "msgpack")]
pub struct CellAnswer {
    /// The number of the question.
    pub question: u32,
    /// A driver who was free when last heard of.
    pub driver: Option<String>,
}

/// Ride to driver: do you take this?
#[persisted]
#[derive(Debug, PartialEq, Eq, Message)]
#[message(typename = "rides/Offer", format = "msgpack")]
pub struct Offer {
    /// The ride.
    pub ride: String,
    /// The number of the offer among those of the ride: answers to earlier ones count no more.
    pub number: u32,
    /// From where.
    pub pickup: CellId,
    /// To where.
    pub destination: CellId,
}

/// Driver to ride: yes or no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/OfferAnswer", format = "msgpack")]
pub struct OfferAnswer {
    /// The number of the offer.
    pub number: u32,
    /// Whether the driver takes it.
    pub accepted: bool,
}

/// Ride to driver: the offer, or the job that it became, is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/OfferWithdrawn", format = "msgpack")]
pub struct OfferWithdrawn {
    /// The ride.
    pub ride: String,
    /// The number of the offer.
    pub number: u32,
}

/// Ride to itself, later: the driver has not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/OfferExpired", format = "msgpack")]
pub struct OfferExpired {
    /// The number of the offer.
    pub number: u32,
}

/// Ride to itself, later: look for a driver again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/SearchAgain", format = "msgpack")]
pub struct SearchAgain {}

/// Ride to itself, later: the driver should be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/Overdue", format = "msgpack")]
pub struct Overdue {}

/// Driver to ride: how it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/Progress", format = "msgpack")]
pub struct Progress {
    /// The number of the offer that was accepted.
    pub number: u32,
    /// What has happened.
    pub step: ProgressStep,
}

/// What a driver reports of a ride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Shaped)]
pub enum ProgressStep {
    /// The car has moved.
    Moved,
    /// The passenger is on board.
    PickedUp,
    /// The passenger has got out.
    DroppedOff,
}

/// Driver to cell: free, and here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/DriverHere", format = "msgpack")]
pub struct DriverHere {
    /// Who.
    pub driver: String,
}

/// Driver to cell: no longer free, or no longer here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/DriverGone", format = "msgpack")]
pub struct DriverGone {
    /// Who.
    pub driver: String,
}

/// Cell to city: there are drivers here, count me in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/CellOpened", format = "msgpack")]
pub struct CellOpened {
    /// Which cell.
    pub cell: CellId,
}

/// The metronome to the city.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/Tick", format = "msgpack")]
pub struct Tick {
    /// The number of the tick, from 1 on.
    pub number: u64,
}

/// City to cell: how many drivers are free?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/CountDrivers", format = "msgpack")]
pub struct CountDrivers {
    /// The tick at which this is asked.
    pub tick: u64,
}

/// Cell to city: so many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/DriversCounted", format = "msgpack")]
pub struct DriversCounted {
    /// The tick of the question.
    pub tick: u64,
    /// Free drivers.
    pub drivers: u64,
}

/// Ride to city: over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/RideOver", format = "msgpack")]
pub struct RideOver {
    /// What is to be added to the counters, by their names.
    pub counts: BTreeMap<String, u64>,
}

/// What a ride wants to know of a route: the metadata of the operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/RouteQuestion", format = "msgpack")]
pub struct RouteQuestion {
    /// From where.
    pub from: CellId,
    /// To where.
    pub to: CellId,
}

/// How long a route is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "rides/RouteEstimate", format = "msgpack")]
pub struct RouteEstimate {
    /// Cells to drive.
    pub cells: u32,
}
