//! What module.yaml cannot say: functions with factories, and connectors of the application's own.

use std::sync::Arc;

use statefun::prelude::*;

use crate::board::Board;
use crate::functions::city::City;
use crate::functions::ride::Ride;
use crate::messages::BOARD;
use crate::metronome::Metronome;
use crate::settings::Settings;

/// The part of the application that is bound in code.
#[derive(Debug, Clone, Copy)]
pub struct RideSharing;

impl Module for RideSharing {
    fn configure(&self, global: &GlobalConfiguration, binder: &mut Binder) {
        let settings = match Settings::read(global) {
            Ok(settings) => Arc::new(settings),
            Err(problem) => {
                binder.refuse(problem);
                return;
            }
        };
        binder.ingress("rides/metronome", Metronome::new(settings.tick));
        binder.egress(BOARD.name(), Board::new(&settings.board_file));
        let of_rides = settings.clone();
        binder.function(move || Ride::with_fields(of_rides.clone()));
        binder.function(move || City::with_fields(settings.clone()));
    }
}
