//! Routers: where a record is for more than the one function that module.yaml could name as its target.

use statefun::prelude::*;

use crate::functions::city::City;
use crate::functions::driver::Driver;
use crate::messages::{FleetLocations, LocationUpdate, Tick};

/// Takes a fleet's locations apart: one record becomes a message to each driver.
#[router(ingress = "rides/fleet-locations", to(Driver))]
pub fn fleet_locations(locations: FleetLocations, out: &mut Downstream<'_>) -> RouterResult {
    for (driver, at) in locations.drivers {
        out.forward(Driver::at(driver), LocationUpdate { at, asks: false });
    }
    Ok(())
}

/// Takes the metronome's ticks to the city.
#[router(ingress = "rides/metronome", to(City))]
pub fn ticks(tick: Tick, out: &mut Downstream<'_>) -> RouterResult {
    out.forward(City::whole(), tick);
    Ok(())
}
