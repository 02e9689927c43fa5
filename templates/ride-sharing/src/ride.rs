//! Rides: from the search for a driver to the end.

use statefun::prelude::*;

use crate::cell::Cell;
use crate::messages::{Answer, Begin, FindDriver, Finished, Status, UPDATES, Update};
use crate::passenger::Passenger;

/// One ride.
#[stateful_function(
    typename = "rides/ride",
    accepts(Begin, Answer),
    sends(Cell, Passenger),
    egress(UPDATES)
)]
pub(crate) struct Ride {
    /// Forgotten a day after it began.
    #[persisted(expire_after_write = "1d")]
    trip: PersistedValue<Option<Trip>>,
}

/// Who is driven, from where.
#[persisted]
#[derive(Debug)]
struct Trip {
    passenger: String,
    cell: String,
}

impl Handle<Begin> for Ride {
    fn handle(&mut self, begin: Begin, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let trip = Trip {
            passenger: begin.passenger,
            cell: begin.cell,
        };
        ctx.send(
            Cell::at(&trip.cell),
            FindDriver {
                ride: ctx.id().to_owned(),
            },
        );
        update(&trip, Status::Searching, ctx);
        self.trip.set(Some(trip));
        Ok(())
    }
}

impl Handle<Answer> for Ride {
    fn handle(&mut self, answer: Answer, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let Some(trip) = &*self.trip else {
            // A ride that was given up long ago.
            return Ok(());
        };
        match answer {
            Answer::Accepted { driver } => update(trip, Status::OnTheWay { driver }, ctx),
            Answer::Refused => {
                // The log line says by itself which ride it is about.
                tracing::info!(cell = trip.cell, "refused; looking for another driver");
                ctx.send(
                    Cell::at(&trip.cell),
                    FindDriver {
                        ride: ctx.id().to_owned(),
                    },
                );
            }
            Answer::Done => {
                ctx.send(Passenger::at(&trip.passenger), Finished {});
                update(trip, Status::Finished, ctx);
            }
        }
        Ok(())
    }
}

fn update(trip: &Trip, status: Status, ctx: &mut Context<'_, Ride>) {
    let ride = ctx.id().to_owned();
    ctx.egress(
        UPDATES,
        &Update {
            ride,
            passenger: trip.passenger.clone(),
            status,
        },
    );
}
