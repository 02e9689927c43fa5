//! Drivers: where they are, and what they are doing.

use statefun::prelude::*;

use crate::functions::cell::GeoCell;
use crate::functions::ride::Ride;
use crate::grid::CellId;
use crate::messages::{
    AskStatus, DriverAnswer, DriverGone, DriverHere, DriverOrders, DriverState, LocationUpdate,
    Offer, OfferAnswer, OfferWithdrawn, Progress, ProgressStep,
};

/// What a driver is doing.
#[persisted]
#[derive(Debug, PartialEq, Eq)]
pub enum Duty {
    /// Has never said where they are.
    #[default]
    Away,
    /// Waits for an offer; the cell where the driver is knows it.
    Free,
    /// Is to decide on an offer.
    Asked(Offer),
    /// On the way to the passenger.
    ToPickup(Offer),
    /// With the passenger.
    Driving(Offer),
}

impl Duty {
    fn job(&self) -> Option<&Offer> {
        match self {
            Self::Away | Self::Free => None,
            Self::Asked(job) | Self::ToPickup(job) | Self::Driving(job) => Some(job),
        }
    }

    fn orders(&self) -> DriverOrders {
        let (state, go_to) = match self {
            Self::Away => (DriverState::Away, None),
            Self::Free => (DriverState::Free, None),
            Self::Asked(job) => (DriverState::Asked, Some(job.pickup)),
            Self::ToPickup(job) => (DriverState::ToPickup, Some(job.pickup)),
            Self::Driving(job) => (DriverState::Driving, Some(job.destination)),
        };
        DriverOrders {
            state,
            ride: self.job().map(|job| job.ride.clone()),
            go_to,
        }
    }
}

/// A driver; the id is the one that the driver's app gives.
#[stateful_function(
    typename = "rides/driver",
    accepts(LocationUpdate, DriverAnswer, AskStatus, Offer, OfferWithdrawn),
    sends(GeoCell, Ride)
)]
#[derive(Debug)]
pub struct Driver {
    #[persisted]
    duty: PersistedValue<Duty>,
    #[persisted]
    at: PersistedValue<CellId>,
    /// Whether the driver decides on each offer.
    #[persisted]
    asks: PersistedValue<bool>,
}

impl Driver {
    fn free(&mut self, ctx: &mut Context<'_, Self>) {
        self.duty.set(Duty::Free);
        self.show_up(ctx);
    }

    fn show_up(&self, ctx: &mut Context<'_, Self>) {
        ctx.send(
            GeoCell::at(self.at.to_string()),
            DriverHere {
                driver: ctx.id().to_owned(),
            },
        );
    }

    fn leave(ctx: &mut Context<'_, Self>, cell: CellId) {
        ctx.send(
            GeoCell::at(cell.to_string()),
            DriverGone {
                driver: ctx.id().to_owned(),
            },
        );
    }

    fn accept(&mut self, job: Offer, ctx: &mut Context<'_, Self>) {
        ctx.send(
            Ride::at(&job.ride),
            OfferAnswer {
                number: job.number,
                accepted: true,
            },
        );
        self.duty.set(Duty::ToPickup(job));
    }

    fn report(job: &Offer, step: ProgressStep, ctx: &mut Context<'_, Self>) {
        ctx.send(
            Ride::at(&job.ride),
            Progress {
                number: job.number,
                step,
            },
        );
    }

    fn tell_orders(&self, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if ctx.caller().is_some() {
            ctx.reply(self.duty.orders())?;
        }
        Ok(())
    }
}

impl Handle<LocationUpdate> for Driver {
    fn handle(&mut self, update: LocationUpdate, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let before = *self.at;
        self.at.set(update.at);
        self.asks.set(update.asks);
        match &*self.duty {
            Duty::Away => self.free(ctx),
            Duty::Free => {
                if before != update.at {
                    Self::leave(ctx, before);
                }
                // Also when the driver has not moved: the cell forgets who is silent.
                self.show_up(ctx);
            }
            Duty::Asked(_) => {}
            Duty::ToPickup(job) if job.pickup == update.at => {
                let job = job.clone();
                Self::report(&job, ProgressStep::PickedUp, ctx);
                self.duty.set(Duty::Driving(job));
            }
            Duty::Driving(job) if job.destination == update.at => {
                Self::report(job, ProgressStep::DroppedOff, ctx);
                self.free(ctx);
            }
            Duty::ToPickup(job) | Duty::Driving(job) => Self::report(job, ProgressStep::Moved, ctx),
        }
        self.tell_orders(ctx)
    }
}

impl Handle<Offer> for Driver {
    fn handle(&mut self, offer: Offer, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if *self.duty != Duty::Free {
            ctx.send(
                Ride::at(&offer.ride),
                OfferAnswer {
                    number: offer.number,
                    accepted: false,
                },
            );
            return Ok(());
        }
        Self::leave(ctx, *self.at);
        if *self.asks {
            self.duty.set(Duty::Asked(offer));
        } else {
            self.accept(offer, ctx);
        }
        Ok(())
    }
}

impl Handle<DriverAnswer> for Driver {
    fn handle(&mut self, answer: DriverAnswer, ctx: &mut Context<'_, Self>) -> HandlerResult {
        // The offer may have been withdrawn meanwhile; the orders then say so.
        if let Duty::Asked(offer) = &*self.duty {
            let offer = offer.clone();
            if answer.accept {
                self.accept(offer, ctx);
            } else {
                ctx.send(
                    Ride::at(&offer.ride),
                    OfferAnswer {
                        number: offer.number,
                        accepted: false,
                    },
                );
                self.free(ctx);
            }
        }
        self.tell_orders(ctx)
    }
}

impl Handle<OfferWithdrawn> for Driver {
    fn handle(&mut self, withdrawn: OfferWithdrawn, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let mine = self
            .duty
            .job()
            .is_some_and(|job| job.ride == withdrawn.ride && job.number == withdrawn.number);
        if mine {
            self.free(ctx);
        }
        Ok(())
    }
}

impl Handle<AskStatus> for Driver {
    fn handle(&mut self, _: AskStatus, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.tell_orders(ctx)
    }
}
