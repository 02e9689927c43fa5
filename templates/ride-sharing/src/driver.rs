//! Drivers: where they are, and whom they drive.

use statefun::prelude::*;

use crate::cell::Cell;
use crate::messages::{Answer, Arrived, Assign, DroppedOff, Presence};
use crate::ride::Ride;

/// One driver.
#[stateful_function(
    typename = "rides/driver",
    accepts(Arrived, DroppedOff, Assign),
    sends(Cell, Ride)
)]
pub(crate) struct Driver {
    /// Where the driver is free for a ride.
    #[persisted]
    cell: PersistedValue<Option<String>>,
    /// The ride under way.
    #[persisted]
    ride: PersistedValue<Option<String>>,
}

impl Handle<Arrived> for Driver {
    fn handle(&mut self, arrived: Arrived, ctx: &mut Context<'_, Self>) -> HandlerResult {
        // Who drives is not free, wherever that may be.
        if self.ride.is_none() {
            self.wait_in(arrived.cell, ctx);
        }
        Ok(())
    }
}

impl Handle<DroppedOff> for Driver {
    fn handle(&mut self, end: DroppedOff, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if let Some(ride) = self.ride.take() {
            ctx.send(Ride::at(ride), Answer::Done);
            self.wait_in(end.cell, ctx);
        }
        Ok(())
    }
}

impl Handle<Assign> for Driver {
    fn handle(&mut self, assign: Assign, ctx: &mut Context<'_, Self>) -> HandlerResult {
        // The cell may have chosen this driver before it heard that the driver left.
        let free = self.ride.is_none() && self.cell.as_ref() == Some(&assign.cell);
        let answer = if free {
            self.cell.clear();
            self.ride.set(Some(assign.ride.clone()));
            Answer::Accepted {
                driver: ctx.id().to_owned(),
            }
        } else {
            Answer::Refused
        };
        ctx.send(Ride::at(assign.ride), answer);
        Ok(())
    }
}

impl Driver {
    fn wait_in(&mut self, cell: String, ctx: &mut Context<'_, Self>) {
        let driver = ctx.id().to_owned();
        if let Some(left) = self.cell.replace(cell.clone()).filter(|left| *left != cell) {
            ctx.send(
                Cell::at(left),
                Presence {
                    driver: driver.clone(),
                    here: false,
                },
            );
        }
        ctx.send(Cell::at(cell), Presence { driver, here: true });
    }
}
