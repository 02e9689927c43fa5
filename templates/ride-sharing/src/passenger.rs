//! Passengers: one ride at a time.

use statefun::prelude::*;

use crate::messages::{Begin, Finished, RideRequest};
use crate::ride::Ride;

/// One passenger.
#[stateful_function(
    typename = "rides/passenger",
    accepts(RideRequest, Finished),
    sends(Ride)
)]
pub(crate) struct Passenger {
    /// How many rides there were: the next one's name.
    #[persisted]
    rides: PersistedValue<u64>,
    #[persisted]
    riding: PersistedValue<bool>,
}

impl Handle<RideRequest> for Passenger {
    fn handle(&mut self, request: RideRequest, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let text = if *self.riding {
            "one ride at a time".to_owned()
        } else {
            *self.riding = true;
            *self.rides += 1;
            let ride = format!("{}-{}", ctx.id(), *self.rides);
            let begin = Begin {
                passenger: ctx.id().to_owned(),
                cell: request.cell,
            };
            ctx.send(Ride::at(&ride), begin);
            ride
        };
        if ctx.caller().is_some() {
            ctx.reply(text)?;
        }
        Ok(())
    }
}

impl Handle<Finished> for Passenger {
    fn handle(&mut self, _: Finished, _: &mut Context<'_, Self>) -> HandlerResult {
        self.riding.clear();
        Ok(())
    }
}
