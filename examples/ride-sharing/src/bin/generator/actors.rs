//! Drivers and passengers: what each does next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ride_sharing::grid::CellId;
use ride_sharing::messages::{
    AskStatus, DriverAnswer, DriverOrders, DriverState, LocationUpdate, RequestRide, RideState,
    RideStatus,
};
use statefun::rand::Random;
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, Fatal, Kind};
use crate::report::Stats;

/// What all actors go by.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Names this run, so that another one is of other people.
    pub(crate) run: String,
    pub(crate) grid: u16,
    pub(crate) step: Duration,
    /// When nobody asks for rides any more.
    pub(crate) end: Instant,
    /// Whether those who have not arrived are given up.
    pub(crate) give_up: AtomicBool,
}

impl Plan {
    fn cell(&self, random: &mut Random) -> CellId {
        let mut one = || random.below(u64::from(self.grid)) as u16;
        CellId::new(one(), one())
    }

    fn other_cell(&self, than: CellId, random: &mut Random) -> CellId {
        loop {
            let cell = self.cell(random);
            if cell != than {
                return cell;
            }
        }
    }
}

#[derive(Debug)]
pub(crate) enum Actor {
    Driver(Driver),
    Passenger(Passenger),
}

#[derive(Debug)]
pub(crate) struct Driver {
    id: String,
    at: CellId,
    /// Wants to be asked, and often does not answer.
    undecided: bool,
    /// The ride that the driver was last asked for.
    asked: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Passenger {
    id: String,
    at: CellId,
    requests: u32,
    ride: Option<(RideStatus, CellId)>,
}

impl Driver {
    pub(crate) fn new(number: u64, undecided: bool, plan: &Plan, random: &mut Random) -> Self {
        Self {
            id: format!("{}-driver-{number}", plan.run),
            at: plan.cell(random),
            undecided,
            asked: None,
        }
    }

    /// Says where the driver is, and goes where the answer says.
    async fn step(&mut self, client: &mut Client, plan: &Plan) -> Result<(), Fatal> {
        let update = LocationUpdate {
            at: self.at,
            asks: self.undecided,
        };
        let path = format!("/drivers/{}/location?wait", self.id);
        // No key: where the driver is may be said twice.
        let orders: DriverOrders = client.post(Kind::Location, &path, None, &update).await?;
        if orders.state == DriverState::Asked && self.asked != orders.ride {
            self.asked.clone_from(&orders.ride);
            if client.random().below(2) == 0 {
                self.answer(client, orders.ride.as_deref().unwrap_or_default())
                    .await?;
            }
        }
        match orders.go_to {
            Some(goal) if orders.state != DriverState::Asked => {
                self.at = self.at.step_towards(goal);
            }
            // Free drivers stroll now and then.
            None if client.random().below(4) == 0 => {
                let goal = plan.cell(client.random());
                self.at = self.at.step_towards(goal);
            }
            _ => {}
        }
        Ok(())
    }

    async fn answer(&self, client: &mut Client, ride: &str) -> Result<(), Fatal> {
        let path = format!("/drivers/{}/answer?wait", self.id);
        let key = format!("{}-{ride}", self.id);
        let _: DriverOrders = client
            .post(
                Kind::Other,
                &path,
                Some(&key),
                &DriverAnswer { accept: true },
            )
            .await?;
        Ok(())
    }
}

impl Passenger {
    pub(crate) fn new(number: u64, plan: &Plan, random: &mut Random) -> Self {
        Self {
            id: format!("{}-passenger-{number}", plan.run),
            at: plan.cell(random),
            requests: 0,
            ride: None,
        }
    }

    /// Asks for a ride, or how it stands with it; false when there is nothing more to do.
    async fn step(
        &mut self,
        client: &mut Client,
        plan: &Plan,
        stats: &Stats,
    ) -> Result<bool, Fatal> {
        let (status, destination) = match self.ride.take() {
            None if Instant::now() >= plan.end => return Ok(false),
            Some(_) if plan.give_up.load(Ordering::Relaxed) => return Ok(false),
            None => {
                let destination = plan.other_cell(self.at, client.random());
                let request = RequestRide {
                    pickup: self.at,
                    destination,
                };
                self.requests += 1;
                let path = format!("/passengers/{}/request?wait", self.id);
                let key = format!("{}-{}", self.id, self.requests);
                stats.requested.fetch_add(1, Ordering::Relaxed);
                let status: RideStatus = client
                    .post(Kind::Match, &path, Some(&key), &request)
                    .await?;
                if status.state == RideState::Matched {
                    stats.matched.fetch_add(1, Ordering::Relaxed);
                }
                (status, destination)
            }
            Some((_, destination)) => {
                let path = format!("/passengers/{}/status?wait", self.id);
                (
                    client.post(Kind::Other, &path, None, &AskStatus {}).await?,
                    destination,
                )
            }
        };
        match status.state {
            RideState::Ended => {
                self.at = destination;
                stats.ended.fetch_add(1, Ordering::Relaxed);
                stats
                    .revenue_cents
                    .fetch_add(status.price_cents.unwrap_or_default(), Ordering::Relaxed);
            }
            RideState::Failed => {
                stats.failed.fetch_add(1, Ordering::Relaxed);
            }
            RideState::Unknown | RideState::Searching | RideState::Matched | RideState::Started => {
                self.ride = Some((status, destination));
            }
        }
        Ok(true)
    }
}

/// Lets the actors of one connection take turns, each when it is due, until none has anything more to do.
pub(crate) async fn act(
    mut actors: Vec<Actor>,
    mut client: Client,
    plan: Arc<Plan>,
    stats: Arc<Stats>,
) -> Result<(), Fatal> {
    let start = Instant::now();
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    for (index, actor) in actors.iter().enumerate() {
        // Spread over a step. Passengers come when the drivers are there.
        let offset = plan.step.mul_f64(client.random().unit());
        let offset = if matches!(actor, Actor::Passenger(_)) {
            offset + plan.step * 2
        } else {
            offset
        };
        due.push(Reverse((start + offset, index)));
    }
    while let Some(Reverse((at, index))) = due.pop() {
        sleep_until(at).await;
        let pause = match actors.get_mut(index) {
            Some(Actor::Driver(driver)) => {
                driver.step(&mut client, &plan).await?;
                plan.step
            }
            Some(Actor::Passenger(passenger)) => {
                if !passenger.step(&mut client, &plan, &stats).await? {
                    continue;
                }
                // Between rides a passenger stays a while.
                plan.step * if passenger.ride.is_some() { 2 } else { 4 }
            }
            None => continue,
        };
        // Who is late does not hurry to make up for it.
        due.push(Reverse((Instant::now().max(at + pause), index)));
    }
    Ok(())
}
