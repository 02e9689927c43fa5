//! Cells of the grid: who is free here?

use statefun::clock::Timestamp;
use statefun::prelude::*;

use crate::functions::city::City;
use crate::grid::CellId;
use crate::messages::{
    CellAnswer, CellOpened, CountDrivers, DriverGone, DriverHere, DriversCounted, FindDriver,
};

/// A cell; the id is its [`CellId`] as text.
///
/// What it knows may be out of date: a driver that it names may have accepted another ride meanwhile, and then refuses.
#[stateful_function(
    typename = "rides/cell",
    accepts(DriverHere, DriverGone, FindDriver, CountDrivers),
    sends(City)
)]
#[derive(Debug)]
pub struct GeoCell {
    /// Free drivers, and when they were last heard of. Who is silent for a minute is taken to have gone home.
    #[persisted(expire_after_write = "1m")]
    drivers: PersistedTable<String, Timestamp>,
    /// Whether the city knows of this cell.
    #[persisted]
    known: PersistedValue<bool>,
}

impl Handle<DriverHere> for GeoCell {
    fn handle(&mut self, here: DriverHere, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.drivers.set(here.driver, ctx.now());
        if !*self.known
            && let Some(cell) = CellId::parse(ctx.id())
        {
            self.known.set(true);
            ctx.send(City::whole(), CellOpened { cell });
        }
        Ok(())
    }
}

impl Handle<DriverGone> for GeoCell {
    fn handle(&mut self, gone: DriverGone, _: &mut Context<'_, Self>) -> HandlerResult {
        self.drivers.remove(&gone.driver);
        Ok(())
    }
}

impl Handle<FindDriver> for GeoCell {
    fn handle(&mut self, wanted: FindDriver, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let mut candidates = self.drivers.keys()?;
        candidates.retain(|driver| !wanted.except.contains(driver));
        // Any of them, so that rides that ask at the same time rarely mean the same driver.
        let chosen = ctx.random().below(candidates.len() as u64) as usize;
        let driver = (!candidates.is_empty()).then(|| candidates.swap_remove(chosen));
        ctx.reply(CellAnswer {
            question: wanted.question,
            driver,
        })?;
        Ok(())
    }
}

impl Handle<CountDrivers> for GeoCell {
    fn handle(&mut self, count: CountDrivers, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let mut drivers = 0;
        self.drivers.for_each(|_, _| drivers += 1)?;
        ctx.send(
            City::whole(),
            DriversCounted {
                tick: count.tick,
                drivers,
            },
        );
        Ok(())
    }
}
