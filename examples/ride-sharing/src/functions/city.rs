//! The city: counts, and at every tick of the metronome asks all cells.

use std::collections::BTreeMap;
use std::sync::Arc;

use statefun::prelude::*;

use crate::functions::cell::GeoCell;
use crate::grid::CellId;
use crate::messages::{
    BOARD, CellOpened, CityReport, CountDrivers, DriversCounted, RideOver, Tick,
};
use crate::settings::Settings;

/// A count of free drivers under way.
#[persisted]
#[derive(Debug)]
pub struct Count {
    tick: u64,
    /// Cells that have not answered.
    waiting: u64,
    drivers: u64,
}

/// The city as a whole: there is one.
///
/// Which counters it keeps is known only at run time, from the configuration: they are states of a registry.
#[stateful_function(
    typename = "rides/city",
    accepts(Tick, CellOpened, DriversCounted, RideOver),
    sends(GeoCell),
    egress(BOARD)
)]
#[derive(Debug)]
pub struct City {
    /// Ticks seen.
    #[persisted]
    ticks: PersistedValue<u64>,
    /// Cells in which there has been a driver, by their coordinates.
    #[persisted]
    cells: PersistedTable<(u16, u16), bool>,
    #[persisted]
    known_cells: PersistedValue<u64>,
    #[persisted]
    count: PersistedValue<Count>,
    #[persisted]
    metrics: PersistedRegistry,
    settings: Arc<Settings>,
}

impl City {
    /// The one instance.
    pub fn whole() -> statefun::sdk::function::Target<Self> {
        Self::at("city")
    }

    fn report(&mut self, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let mut metrics = BTreeMap::new();
        for name in &self.settings.metrics {
            metrics.insert(name.clone(), **self.metrics.value::<u64>(name)?);
        }
        let report = CityReport {
            tick: self.count.tick,
            ticks_seen: *self.ticks,
            cells: *self.known_cells,
            free_drivers: self.count.drivers,
            metrics,
        };
        ctx.egress(BOARD, &report);
        self.count.clear();
        Ok(())
    }
}

impl Handle<Tick> for City {
    fn handle(&mut self, tick: Tick, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.ticks += 1;
        // A count that is not done by now is given up: answers to it are of an earlier tick.
        self.count.set(Count {
            tick: tick.number,
            waiting: *self.known_cells,
            drivers: 0,
        });
        if self.count.waiting == 0 {
            return self.report(ctx);
        }
        self.cells.for_each(|(x, y), _| {
            ctx.send(
                GeoCell::at(CellId::new(*x, *y).to_string()),
                CountDrivers { tick: tick.number },
            );
        })?;
        Ok(())
    }
}

impl Handle<CellOpened> for City {
    fn handle(&mut self, opened: CellOpened, _: &mut Context<'_, Self>) -> HandlerResult {
        let key = (opened.cell.x, opened.cell.y);
        if !self.cells.contains_key(&key)? {
            self.cells.set(key, true);
            *self.known_cells += 1;
        }
        Ok(())
    }
}

impl Handle<DriversCounted> for City {
    fn handle(&mut self, counted: DriversCounted, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if self
            .count
            .get()
            .is_none_or(|count| count.tick != counted.tick)
        {
            return Ok(());
        }
        self.count.drivers += counted.drivers;
        self.count.waiting -= 1;
        if self.count.waiting == 0 {
            self.report(ctx)
        } else {
            Ok(())
        }
    }
}

impl Handle<RideOver> for City {
    fn handle(&mut self, over: RideOver, _: &mut Context<'_, Self>) -> HandlerResult {
        for name in &self.settings.metrics {
            if let Some(more) = over.counts.get(name) {
                **self.metrics.value::<u64>(name)? += more;
            }
        }
        Ok(())
    }
}
