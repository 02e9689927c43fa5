//! Passengers: each starts rides, one at a time, and tells clients that wait how it stands with them.

use statefun::prelude::*;

use crate::functions::ride::Ride;
use crate::messages::{AskStatus, RequestRide, RideState, RideStatus, StartRide};

/// A passenger; the id is the one that the client gives.
///
/// It sends to addresses known only at run time: those of clients that wait for the outcome of a request. Such a client is
/// the caller of the request, and an [`Address`] like any other, so it can be kept in state and answered later, by
/// [`Context::send_message_to`], after a crash as well.
#[stateful_function(
    typename = "rides/passenger",
    accepts(RequestRide, RideStatus, AskStatus),
    sends(Ride),
    dynamic_sends
)]
#[derive(Debug)]
pub struct Passenger {
    /// How many rides there were, the current one included.
    #[persisted]
    rides: PersistedValue<u32>,
    /// How it stands with the last ride. Forgotten when nothing was heard for a month.
    #[persisted(expire_after_write = "30d")]
    last: PersistedValue<RideStatus>,
    /// Clients that wait until a driver is found.
    #[persisted]
    waiting: PersistedValue<Vec<Address>>,
}

impl Handle<RequestRide> for Passenger {
    fn handle(&mut self, request: RequestRide, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let under_way = self.last.get().is_some_and(|ride| !ride.state.is_over());
        if !under_way {
            *self.rides += 1;
            let ride = format!("{}-{}", ctx.id(), *self.rides);
            let start = StartRide {
                passenger: ctx.id().to_owned(),
                pickup: request.pickup,
                destination: request.destination,
            };
            ctx.send(Ride::at(&ride), start);
            self.last.set(RideStatus {
                ride,
                state: RideState::Searching,
                ..RideStatus::default()
            });
        }
        // Who asks for a second ride meanwhile hears of the first.
        match ctx.caller() {
            Some(client) if self.last.state == RideState::Searching => {
                self.waiting.push(client.clone());
            }
            Some(_) => ctx.reply(self.last.clone())?,
            None => {}
        }
        Ok(())
    }
}

impl Handle<RideStatus> for Passenger {
    fn handle(&mut self, status: RideStatus, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if !self.waiting.is_empty() && status.state != RideState::Searching {
            for client in self.waiting.iter() {
                ctx.send_message_to(client.clone(), status.clone())?;
            }
            self.waiting.clear();
        }
        self.last.set(status);
        Ok(())
    }
}

impl Handle<AskStatus> for Passenger {
    fn handle(&mut self, _: AskStatus, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if ctx.caller().is_some() {
            ctx.reply(self.last.clone())?;
        }
        Ok(())
    }
}
