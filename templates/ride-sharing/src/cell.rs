//! Cells of the map: who is free there, and which rides wait.

use std::collections::VecDeque;

use statefun::prelude::*;

use crate::driver::Driver;
use crate::messages::{Assign, FindDriver, Presence};

/// One cell.
#[stateful_function(typename = "rides/cell", accepts(Presence, FindDriver), sends(Driver))]
pub(crate) struct Cell {
    /// Free drivers, the one who came first in front.
    #[persisted]
    drivers: PersistedValue<VecDeque<String>>,
    /// Rides without a driver, in the order of their requests.
    #[persisted]
    waiting: PersistedValue<VecDeque<String>>,
}

impl Handle<Presence> for Cell {
    fn handle(&mut self, presence: Presence, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.drivers.retain(|driver| *driver != presence.driver);
        if presence.here {
            self.drivers.push_back(presence.driver);
        }
        self.assign(ctx);
        Ok(())
    }
}

impl Handle<FindDriver> for Cell {
    fn handle(&mut self, search: FindDriver, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.waiting.push_back(search.ride);
        self.assign(ctx);
        Ok(())
    }
}

impl Cell {
    fn assign(&mut self, ctx: &mut Context<'_, Self>) {
        while !self.drivers.is_empty()
            && let Some(ride) = self.waiting.pop_front()
            && let Some(driver) = self.drivers.pop_front()
        {
            ctx.send(
                Driver::at(&driver),
                Assign {
                    ride,
                    cell: ctx.id().to_owned(),
                },
            );
        }
    }
}
