//! Rides: each looks for a driver, follows the way to its end, and writes down every step.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use statefun::prelude::*;

use crate::functions::cell::GeoCell;
use crate::functions::city::City;
use crate::functions::driver::Driver;
use crate::functions::passenger::Passenger;
use crate::grid::CellId;
use crate::messages::{
    AskStatus, CellAnswer, EVENTS, FindDriver, Offer, OfferAnswer, OfferExpired, OfferWithdrawn,
    Overdue, Progress, ProgressStep, RideEvent, RideOver, RideState, RideStatus, RideStep,
    RouteEstimate, RouteQuestion, SearchAgain, StartRide,
};
use crate::settings::Settings;

/// The delayed message that stands for a driver's silence; taken back when the driver answers.
const OFFER: &str = "offer";
/// The delayed message that ends a ride that takes too long; taken back when it ends.
const LIMIT: &str = "limit";

/// A ride under way.
#[persisted]
#[derive(Debug)]
pub struct Trip {
    passenger: String,
    pickup: CellId,
    destination: CellId,
    phase: Phase,
    /// The driver who was asked, or who accepted.
    driver: Option<String>,
    /// Offers made, and so the number of the last one.
    offers: u32,
    /// Questions to cells, and so the number of the last one.
    questions: u32,
    /// Which of the cells around is asked, and how often all of them were.
    cell: usize,
    rounds: u32,
    /// Drivers who refused or were silent in this round.
    asked: Vec<String>,
    /// The length of the route, once it is known.
    route: Option<u32>,
    /// How often the car has moved.
    moves: u32,
    /// Events written, and so the number of the last one.
    events: u32,
}

/// What a ride waits for.
#[persisted]
#[derive(Debug, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A cell's answer, or the time to ask again.
    #[default]
    Searching,
    /// A driver's answer.
    Offered,
    /// The passenger to get in.
    Coming,
    /// The passenger to get out.
    Riding,
}

/// A ride; the id is the passenger's and a number.
///
/// The configuration names functions that are told of each event. They are known only at run time, so they are sent a
/// [`TypedValue`] at a dynamic [`Address`]: they may accept it as what it is, or take every value as
/// [`Journal`](crate::functions::journal::Journal) does.
#[stateful_function(
    typename = "rides/ride",
    accepts(
        StartRide,
        CellAnswer,
        SearchAgain,
        OfferAnswer,
        OfferExpired,
        Progress,
        Overdue,
        AskStatus,
        AsyncResult<RouteQuestion, RouteEstimate>
    ),
    sends(GeoCell, Driver, Passenger, City),
    dynamic_sends,
    egress(EVENTS)
)]
#[derive(Debug)]
pub struct Ride {
    /// Until it is over.
    #[persisted]
    trip: PersistedValue<Trip>,
    /// How it ended, for those who ask within the hour.
    #[persisted(expire_after_write = "1h")]
    outcome: PersistedValue<RideStatus>,
    settings: Arc<Settings>,
}

impl Ride {
    fn is_offered(&self, number: u32) -> bool {
        self.trip
            .get()
            .is_some_and(|trip| trip.phase == Phase::Offered && trip.offers == number)
    }

    /// Asks the next of the cells around the passenger; after the last of them, all again a little later.
    fn search(&mut self, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let trip = &mut *self.trip;
        trip.phase = Phase::Searching;
        let around = trip.pickup.nearby(self.settings.search_radius);
        if let Some(cell) = around.get(trip.cell) {
            trip.questions += 1;
            let question = FindDriver {
                question: trip.questions,
                except: trip.asked.clone(),
            };
            ctx.send(GeoCell::at(cell.to_string()), question);
            return Ok(());
        }
        trip.rounds += 1;
        if trip.rounds >= self.settings.search_rounds {
            return self.end(RideStep::Failed, Some("no driver"), ctx);
        }
        trip.cell = 0;
        trip.asked.clear();
        ctx.send_after(
            self.settings.search_pause,
            Self::at(ctx.id()),
            SearchAgain {},
        );
        Ok(())
    }

    fn next_driver(&mut self, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let driver = self.trip.driver.take();
        self.trip.asked.extend(driver);
        self.search(ctx)
    }

    fn withdraw(&self, ctx: &mut Context<'_, Self>) {
        if let Some(driver) = &self.trip.driver {
            let withdrawn = OfferWithdrawn {
                ride: ctx.id().to_owned(),
                number: self.trip.offers,
            };
            ctx.send(Driver::at(driver), withdrawn);
        }
    }

    fn price_cents(&self) -> u64 {
        let trip = &self.trip;
        // The estimate is late when the way was short.
        let cells = trip
            .route
            .unwrap_or_else(|| trip.pickup.distance(trip.destination));
        self.settings.pricing.price_cents(cells)
    }

    fn status(&self, ctx: &Context<'_, Self>) -> RideStatus {
        let Some(trip) = self.trip.get() else {
            let unknown = RideStatus {
                ride: ctx.id().to_owned(),
                ..RideStatus::default()
            };
            return self.outcome.get().cloned().unwrap_or(unknown);
        };
        let (state, driver) = match trip.phase {
            Phase::Searching | Phase::Offered => (RideState::Searching, None),
            Phase::Coming => (RideState::Matched, trip.driver.clone()),
            Phase::Riding => (RideState::Started, trip.driver.clone()),
        };
        let price_cents = trip
            .route
            .map(|cells| self.settings.pricing.price_cents(cells));
        RideStatus {
            ride: ctx.id().to_owned(),
            state,
            driver,
            price_cents,
            reason: None,
        }
    }

    /// Writes an event, for all who are to know of it.
    fn record(
        &mut self,
        event: RideStep,
        reason: Option<&str>,
        ctx: &mut Context<'_, Self>,
    ) -> HandlerResult {
        self.trip.events += 1;
        let event = RideEvent {
            ride: ctx.id().to_owned(),
            number: self.trip.events,
            event,
            passenger: self.trip.passenger.clone(),
            driver: self.trip.driver.clone(),
            price_cents: (event == RideStep::Ended).then(|| self.price_cents()),
            reason: reason.map(str::to_owned),
            at_ms: ctx.now(),
        };
        ctx.egress(EVENTS, &event);
        for observer in &self.settings.observers {
            let value = TypedValue::from_message(&event)?;
            // An observer that takes no events is a mistake of the configuration, and no reason to stop rides.
            if let Err(problem) = ctx.send_to(Address::new(*observer, ctx.id()), value) {
                tracing::warn!(%problem, "an observer of rides is left out");
            }
        }
        Ok(())
    }

    fn tell_passenger(&self, ctx: &mut Context<'_, Self>) {
        let status = self.status(ctx);
        ctx.send(Passenger::at(&self.trip.passenger), status);
    }

    /// The last event; from here on there is only the outcome.
    fn end(
        &mut self,
        event: RideStep,
        reason: Option<&str>,
        ctx: &mut Context<'_, Self>,
    ) -> HandlerResult {
        self.record(event, reason, ctx)?;
        let ended = event == RideStep::Ended;
        let outcome = RideStatus {
            ride: ctx.id().to_owned(),
            state: if ended {
                RideState::Ended
            } else {
                RideState::Failed
            },
            driver: self.trip.driver.clone(),
            price_cents: ended.then(|| self.price_cents()),
            reason: reason.map(str::to_owned),
        };
        let counts: BTreeMap<String, u64> = if ended {
            BTreeMap::from([
                ("ended".to_owned(), 1),
                ("revenue_cents".to_owned(), self.price_cents()),
                ("moves".to_owned(), u64::from(self.trip.moves)),
            ])
        } else {
            BTreeMap::from([("failed".to_owned(), 1)])
        };
        ctx.send(City::whole(), RideOver { counts });
        ctx.send(Passenger::at(&self.trip.passenger), outcome.clone());
        ctx.cancel(OFFER);
        ctx.cancel(LIMIT);
        self.outcome.set(outcome);
        self.trip.clear();
        Ok(())
    }

    /// Finds out how long the route is. That takes a while, as asking a service for it would, so it happens aside.
    fn estimate(&self, question: RouteQuestion, ctx: &mut Context<'_, Self>) {
        let (delay, cells) = (
            self.settings.route_delay,
            question.from.distance(question.to),
        );
        ctx.spawn(question, async move {
            tokio::time::sleep(delay).await;
            Ok::<_, Infallible>(RouteEstimate { cells })
        });
    }
}

impl Handle<StartRide> for Ride {
    fn handle(&mut self, start: StartRide, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let StartRide {
            passenger,
            pickup,
            destination,
        } = start;
        self.trip.set(Trip {
            passenger,
            pickup,
            destination,
            ..Trip::default()
        });
        self.record(RideStep::Requested, None, ctx)?;
        self.estimate(
            RouteQuestion {
                from: pickup,
                to: destination,
            },
            ctx,
        );
        self.search(ctx)
    }
}

impl Handle<AsyncResult<RouteQuestion, RouteEstimate>> for Ride {
    fn handle(
        &mut self,
        result: AsyncResult<RouteQuestion, RouteEstimate>,
        ctx: &mut Context<'_, Self>,
    ) -> HandlerResult {
        if self.trip.get().is_none() {
            return Ok(());
        }
        match result.outcome {
            AsyncOutcome::Success(estimate) => self.trip.route = Some(estimate.cells),
            AsyncOutcome::Failure(problem) => {
                tracing::warn!(problem, "no estimate of the route");
            }
            // The process was restarted meanwhile; asking twice does no harm.
            AsyncOutcome::Unknown => self.estimate(result.metadata, ctx),
        }
        Ok(())
    }
}

impl Handle<CellAnswer> for Ride {
    fn handle(&mut self, answer: CellAnswer, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let expected = self.trip.get().is_some_and(|trip| {
            trip.phase == Phase::Searching && trip.questions == answer.question
        });
        if !expected {
            return Ok(());
        }
        let Some(driver) = answer.driver else {
            self.trip.cell += 1;
            return self.search(ctx);
        };
        let trip = &mut *self.trip;
        trip.phase = Phase::Offered;
        trip.offers += 1;
        trip.driver = Some(driver.clone());
        let number = trip.offers;
        let offer = Offer {
            ride: ctx.id().to_owned(),
            number,
            pickup: trip.pickup,
            destination: trip.destination,
        };
        ctx.send(Driver::at(driver), offer);
        ctx.send_after(
            self.settings.offer_timeout,
            Self::at(ctx.id()),
            OfferExpired { number },
        )
        .with_token(OFFER);
        Ok(())
    }
}

impl Handle<SearchAgain> for Ride {
    fn handle(&mut self, _: SearchAgain, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if self.trip.get().is_some() {
            self.search(ctx)
        } else {
            Ok(())
        }
    }
}

impl Handle<OfferAnswer> for Ride {
    fn handle(&mut self, answer: OfferAnswer, ctx: &mut Context<'_, Self>) -> HandlerResult {
        // Too late: the offer was withdrawn, and the driver hears of that.
        if !self.is_offered(answer.number) {
            return Ok(());
        }
        ctx.cancel(OFFER);
        if !answer.accepted {
            return self.next_driver(ctx);
        }
        self.trip.phase = Phase::Coming;
        self.record(RideStep::Matched, None, ctx)?;
        self.tell_passenger(ctx);
        ctx.send_after(self.settings.ride_limit, Self::at(ctx.id()), Overdue {})
            .with_token(LIMIT);
        Ok(())
    }
}

impl Handle<OfferExpired> for Ride {
    fn handle(&mut self, expired: OfferExpired, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if !self.is_offered(expired.number) {
            return Ok(());
        }
        self.withdraw(ctx);
        self.next_driver(ctx)
    }
}

impl Handle<Progress> for Ride {
    fn handle(&mut self, progress: Progress, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let Some(trip) = self.trip.get() else {
            return Ok(());
        };
        let of_driver =
            matches!(trip.phase, Phase::Coming | Phase::Riding) && trip.offers == progress.number;
        if !of_driver {
            return Ok(());
        }
        self.trip.moves += 1;
        match progress.step {
            ProgressStep::Moved => {}
            ProgressStep::PickedUp => {
                self.trip.phase = Phase::Riding;
                self.record(RideStep::Started, None, ctx)?;
                self.tell_passenger(ctx);
            }
            ProgressStep::DroppedOff => self.end(RideStep::Ended, None, ctx)?,
        }
        Ok(())
    }
}

impl Handle<Overdue> for Ride {
    fn handle(&mut self, _: Overdue, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if self.trip.get().is_none() {
            return Ok(());
        }
        self.withdraw(ctx);
        self.end(RideStep::Failed, Some("the driver is lost"), ctx)
    }
}

impl Handle<AskStatus> for Ride {
    fn handle(&mut self, _: AskStatus, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if ctx.caller().is_some() {
            ctx.reply(self.status(ctx))?;
        }
        Ok(())
    }
}
