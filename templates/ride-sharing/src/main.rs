//! Brings passengers and drivers together.
//!
//! A passenger's request becomes a ride. The ride asks the cell of the map where the passenger stands for a driver. The cell
//! knows who is there; the driver may have gone elsewhere meanwhile, and then the ride asks again.

mod cell;
mod driver;
mod messages;
mod passenger;
mod ride;

fn main() -> statefun::Exit {
    statefun::main()
}

#[cfg(test)]
mod tests;
