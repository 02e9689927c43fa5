use statefun::prelude::*;
use statefun::testing::Harness;

use crate::driver::Driver;
use crate::messages::{Arrived, DroppedOff, RideRequest, Status, UPDATES};
use crate::passenger::Passenger;

fn arrive(app: &mut Harness, driver: &str, cell: &str) {
    app.send(
        Driver::at(driver),
        Arrived {
            cell: cell.to_owned(),
        },
    )
    .run_until_idle();
}

fn request(app: &mut Harness, passenger: &str, cell: &str) -> String {
    app.call(
        Passenger::at(passenger),
        RideRequest {
            cell: cell.to_owned(),
        },
    )
}

fn updates(app: &mut Harness) -> Vec<(String, Status)> {
    app.take_egress(UPDATES)
        .into_iter()
        .map(|update| (update.ride, update.status))
        .collect()
}

fn on_the_way(ride: &str, driver: &str) -> (String, Status) {
    (
        ride.to_owned(),
        Status::OnTheWay {
            driver: driver.to_owned(),
        },
    )
}

#[test]
fn a_ride_from_request_to_end() {
    let mut app = Harness::new();
    arrive(&mut app, "dora", "north");
    assert_eq!(request(&mut app, "paul", "north"), "paul-1");
    assert_eq!(
        updates(&mut app),
        [
            ("paul-1".to_owned(), Status::Searching),
            on_the_way("paul-1", "dora")
        ]
    );
    assert_eq!(request(&mut app, "paul", "north"), "one ride at a time");

    app.send(
        Driver::at("dora"),
        DroppedOff {
            cell: "south".to_owned(),
        },
    )
    .run_until_idle();
    assert_eq!(updates(&mut app), [("paul-1".to_owned(), Status::Finished)]);
    assert_eq!(request(&mut app, "paul", "south"), "paul-2");
    assert_eq!(updates(&mut app)[1], on_the_way("paul-2", "dora"));
    app.assert_no_failures();
}

#[test]
fn rides_wait_for_drivers_in_order_and_across_restarts() {
    let mut app = Harness::new();
    request(&mut app, "paul", "north");
    request(&mut app, "rita", "north");
    updates(&mut app);
    app.restart();
    arrive(&mut app, "dora", "north");
    arrive(&mut app, "dave", "north");
    assert_eq!(
        updates(&mut app),
        [on_the_way("paul-1", "dora"), on_the_way("rita-1", "dave")]
    );
}

#[test]
fn a_driver_who_left_is_not_sent() {
    let mut app = Harness::new();
    arrive(&mut app, "dora", "north");
    arrive(&mut app, "dora", "south");
    request(&mut app, "paul", "north");
    assert_eq!(
        updates(&mut app),
        [("paul-1".to_owned(), Status::Searching)]
    );
}

#[test]
fn nobody_drives_two_at_once() {
    let mut app = Harness::new();
    arrive(&mut app, "dora", "north");
    request(&mut app, "paul", "north");
    // A late message of a driver who has a ride already.
    arrive(&mut app, "dora", "north");
    request(&mut app, "rita", "north");
    let rides: Vec<String> = updates(&mut app)
        .into_iter()
        .map(|(ride, _)| ride)
        .collect();
    assert_eq!(rides, ["paul-1", "paul-1", "rita-1"]);
}
