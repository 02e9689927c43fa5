//! The functions, in memory and in virtual time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use ride_sharing::RideSharing;
use ride_sharing::audit::{Summary, audit};
use ride_sharing::functions::cell::GeoCell;
use ride_sharing::functions::city::City;
use ride_sharing::functions::driver::Driver;
use ride_sharing::functions::journal::Journal;
use ride_sharing::functions::passenger::Passenger;
use ride_sharing::functions::ride::Ride;
use ride_sharing::grid::CellId;
use ride_sharing::messages::*;
use statefun::io::ingress::Record;
use statefun::prelude::*;
use statefun::rand::Random;
use statefun::testing::{Harness, HarnessBuilder};

const HERE: CellId = CellId::new(5, 5);
const NEXT: CellId = CellId::new(5, 6);
const THERE: CellId = CellId::new(5, 8);

fn builder() -> HarnessBuilder {
    Harness::builder()
        .linked()
        .module(RideSharing)
        .configuration("OFFER_TIMEOUT", "5s")
        .configuration("SEARCH_PAUSE", "1s")
        .configuration("SEARCH_ROUNDS", "3")
        .configuration("RIDE_LIMIT", "20m")
        .configuration("RIDE_OBSERVERS", "rides/journal")
        .configuration("CITY_METRICS", "ended revenue_cents")
        .configuration("ROUTE_DELAY", "0s")
}

fn city() -> Harness {
    builder().build().unwrap()
}

fn located(app: &mut Harness, driver: &str, at: CellId) -> DriverOrders {
    app.call(Driver::at(driver), LocationUpdate { at, asks: false })
}

fn asking(app: &mut Harness, driver: &str, at: CellId) -> DriverOrders {
    app.call(Driver::at(driver), LocationUpdate { at, asks: true })
}

fn answers(app: &mut Harness, driver: &str, accept: bool) -> DriverOrders {
    app.call(Driver::at(driver), DriverAnswer { accept })
}

fn request(app: &mut Harness, passenger: &str) {
    app.send(
        Passenger::at(passenger),
        RequestRide {
            pickup: HERE,
            destination: THERE,
        },
    )
    .run_until_idle();
}

fn status(app: &mut Harness, ride: &str) -> RideStatus {
    app.call(Ride::at(ride), AskStatus {})
}

fn steps(app: &Harness, ride: &str) -> Vec<RideStep> {
    let events = app.egress(EVENTS);
    events
        .iter()
        .filter(|event| event.ride == ride)
        .map(|event| event.event)
        .collect()
}

#[test]
fn a_ride_from_its_request_to_its_end() {
    let mut app = city();
    assert_eq!(located(&mut app, "dora", HERE).state, DriverState::Free);
    let matched: RideStatus = app.call(
        Passenger::at("paul"),
        RequestRide {
            pickup: HERE,
            destination: THERE,
        },
    );
    assert_eq!(
        (matched.state, matched.driver.as_deref()),
        (RideState::Matched, Some("dora"))
    );
    let picked_up = located(&mut app, "dora", HERE);
    assert_eq!(
        (picked_up.state, picked_up.go_to),
        (DriverState::Driving, Some(THERE))
    );
    assert_eq!(status(&mut app, "paul-1").state, RideState::Started);
    located(&mut app, "dora", NEXT);
    assert_eq!(located(&mut app, "dora", THERE).state, DriverState::Free);
    let price = 250 + 3 * 120;
    for status in [
        status(&mut app, "paul-1"),
        app.call(Passenger::at("paul"), AskStatus {}),
    ] {
        assert_eq!(
            (status.state, status.price_cents),
            (RideState::Ended, Some(price))
        );
    }
    assert_eq!(
        steps(&app, "paul-1"),
        [
            RideStep::Requested,
            RideStep::Matched,
            RideStep::Started,
            RideStep::Ended
        ]
    );
    app.assert_no_failures();
}

#[test]
fn a_busy_driver_refuses_and_the_cell_is_asked_again() {
    let mut app = city();
    located(&mut app, "dora", HERE);
    request(&mut app, "paul");
    // The cell hears late of what it knew before: the driver is not free any more.
    app.send(
        GeoCell::at(HERE.to_string()),
        DriverHere {
            driver: "dora".to_owned(),
        },
    )
    .run_until_idle();
    located(&mut app, "dick", NEXT);
    request(&mut app, "pia");
    assert_eq!(status(&mut app, "paul-1").driver.as_deref(), Some("dora"));
    assert_eq!(status(&mut app, "pia-1").driver.as_deref(), Some("dick"));
    let asked = app.sent_to::<FindDriver>(GeoCell::at(HERE.to_string()));
    assert_eq!(asked.last().unwrap().except, ["dora"]);
    app.assert_no_failures();
}

#[test]
fn a_driver_who_does_not_answer_in_time_loses_the_offer() {
    let mut app = city();
    asking(&mut app, "dora", HERE);
    located(&mut app, "dick", NEXT);
    request(&mut app, "paul");
    assert_eq!(status(&mut app, "paul-1").state, RideState::Searching);
    app.advance(Duration::from_secs(4));
    assert_eq!(status(&mut app, "paul-1").state, RideState::Searching);
    app.advance(Duration::from_secs(1));
    assert_eq!(status(&mut app, "paul-1").driver.as_deref(), Some("dick"));
    // Too late: the driver is free, and stays so.
    assert_eq!(answers(&mut app, "dora", true).state, DriverState::Free);
    assert_eq!(status(&mut app, "paul-1").driver.as_deref(), Some("dick"));
    request(&mut app, "pia");
    assert_eq!(answers(&mut app, "dora", true).state, DriverState::ToPickup);
    assert_eq!(status(&mut app, "pia-1").driver.as_deref(), Some("dora"));
    app.assert_no_failures();
}

#[test]
fn an_answer_in_time_takes_the_timeout_back() {
    let mut app = city();
    asking(&mut app, "dora", HERE);
    request(&mut app, "paul");
    assert_eq!(answers(&mut app, "dora", true).state, DriverState::ToPickup);
    app.advance(Duration::from_mins(1));
    assert!(app.sent_to::<OfferExpired>(Ride::at("paul-1")).is_empty());
    assert_eq!(status(&mut app, "paul-1").state, RideState::Matched);
    // Neither does the limit of a ride strike that is over.
    located(&mut app, "dora", HERE);
    located(&mut app, "dora", THERE);
    app.advance(Duration::from_hours(1));
    assert!(app.sent_to::<Overdue>(Ride::at("paul-1")).is_empty());
    app.assert_no_failures();
}

#[test]
fn an_acceptance_that_crosses_its_withdrawal_leaves_the_driver_free() {
    let mut app = city();
    asking(&mut app, "dora", HERE);
    request(&mut app, "paul");
    // Both are on their way when either arrives.
    app.send_from(
        Driver::at("dora"),
        Ride::at("paul-1"),
        OfferAnswer {
            number: 7,
            accepted: true,
        },
    );
    app.send(Ride::at("paul-1"), OfferExpired { number: 1 });
    app.send(Driver::at("dora"), DriverAnswer { accept: true });
    app.run_until_idle();
    assert_eq!(status(&mut app, "paul-1").state, RideState::Searching);
    let orders: DriverOrders = app.call(Driver::at("dora"), AskStatus {});
    assert_eq!(orders.state, DriverState::Free);
    app.assert_no_failures();
}

#[test]
fn without_a_driver_the_ride_fails_and_who_waits_hears_of_it() {
    let mut app = city();
    located(&mut app, "dora", CellId::new(HERE.x + 3, HERE.y));
    let waiting = app.request(
        Passenger::at("paul"),
        RequestRide {
            pickup: HERE,
            destination: THERE,
        },
    );
    app.run_until_idle();
    assert_eq!(app.reply::<RideStatus>(&waiting), None);
    app.advance(Duration::from_secs(10));
    let told: RideStatus = app.reply(&waiting).unwrap();
    assert_eq!(
        (told.state, told.reason.as_deref()),
        (RideState::Failed, Some("no driver"))
    );
    assert_eq!(
        steps(&app, "paul-1"),
        [RideStep::Requested, RideStep::Failed]
    );
    app.assert_no_failures();
}

#[test]
fn who_waits_is_answered_after_a_restart_as_well() {
    let mut app = city();
    let first = app.request(
        Passenger::at("paul"),
        RequestRide {
            pickup: HERE,
            destination: THERE,
        },
    );
    let second = app.request(
        Passenger::at("paul"),
        RequestRide {
            pickup: THERE,
            destination: HERE,
        },
    );
    app.run_until_idle().restart();
    located(&mut app, "dora", HERE);
    app.advance(Duration::from_secs(1));
    for waiting in [first, second] {
        let told: RideStatus = app.reply(&waiting).unwrap();
        assert_eq!(
            (told.ride.as_str(), told.state),
            ("paul-1", RideState::Matched)
        );
    }
    app.assert_no_failures();
}

#[test]
fn a_ride_whose_driver_is_lost_fails() {
    let mut app = city();
    located(&mut app, "dora", HERE);
    request(&mut app, "paul");
    app.advance(Duration::from_mins(20));
    let told = status(&mut app, "paul-1");
    assert_eq!(
        (told.state, told.reason.as_deref()),
        (RideState::Failed, Some("the driver is lost"))
    );
    // Should the driver come back after all: there is nobody to pick up.
    assert_eq!(located(&mut app, "dora", HERE).state, DriverState::Free);
    request(&mut app, "paul");
    assert_eq!(status(&mut app, "paul-2").state, RideState::Matched);
    app.assert_no_failures();
}

#[test]
fn who_is_silent_and_what_is_long_over_is_forgotten() {
    let mut app = city();
    located(&mut app, "dora", HERE);
    app.advance(Duration::from_secs(59));
    located(&mut app, "dora", HERE);
    app.advance(Duration::from_secs(59));
    let free = |app: &mut Harness, tick| {
        app.ingest("rides/metronome", Record::new(Tick { number: tick }))
            .run_until_idle();
        app.egress(BOARD).last().unwrap().free_drivers
    };
    assert_eq!(free(&mut app, 1), 1);
    app.advance(Duration::from_secs(1));
    assert_eq!(free(&mut app, 2), 0);
    request(&mut app, "paul");
    app.advance(Duration::from_secs(10));
    assert_eq!(status(&mut app, "paul-1").state, RideState::Failed);
    app.advance(Duration::from_hours(1));
    assert_eq!(status(&mut app, "paul-1").state, RideState::Unknown);
    app.assert_no_failures();
}

#[test]
fn the_price_follows_the_estimate_of_the_route() {
    let mut app = city();
    app.hold_operations();
    located(&mut app, "dora", HERE);
    request(&mut app, "paul");
    assert_eq!(status(&mut app, "paul-1").price_cents, None);
    app.complete(Ride::at("paul-1"), |question: RouteQuestion| {
        assert_eq!((question.from, question.to), (HERE, THERE));
        AsyncOutcome::Success(RouteEstimate { cells: 10 })
    });
    located(&mut app, "dora", HERE);
    located(&mut app, "dora", THERE);
    assert_eq!(status(&mut app, "paul-1").price_cents, Some(250 + 10 * 120));
    app.assert_no_failures();
}

#[test]
fn an_estimate_that_a_restart_has_cut_off_is_asked_for_again() {
    let mut app = city();
    app.hold_operations();
    located(&mut app, "dora", HERE);
    request(&mut app, "paul");
    app.restart().run_until_idle();
    app.complete(Ride::at("paul-1"), |_: RouteQuestion| {
        AsyncOutcome::Success(RouteEstimate { cells: 4 })
    });
    app.run_until_idle();
    assert_eq!(status(&mut app, "paul-1").price_cents, Some(250 + 4 * 120));
    // A failed one is done without.
    request(&mut app, "pia");
    app.complete(Ride::at("pia-1"), |_: RouteQuestion| {
        AsyncOutcome::<RouteEstimate>::Failure("no map".to_owned())
    });
    app.run_until_idle();
    assert_eq!(status(&mut app, "pia-1").price_cents, None);
    app.assert_no_failures();
}

#[test]
fn observers_are_told_whatever_they_are() {
    let mut app = builder()
        .stub("example/elsewhere")
        .configuration(
            "RIDE_OBSERVERS",
            "rides/journal example/elsewhere nobody/there",
        )
        .build()
        .unwrap();
    located(&mut app, "dora", HERE);
    request(&mut app, "paul");
    let pages: JournalPages = app.call(Journal::at("paul-1"), AskJournal {});
    let told = app.sent_to::<RideEvent>(app.address("example/elsewhere", "paul-1"));
    assert_eq!(told, app.egress(EVENTS));
    assert_eq!(told.len(), 2);
    for (entry, event) in pages.entries.iter().zip(&told) {
        assert_eq!(entry.typename, "rides/RideEvent");
        assert_eq!(
            &serde_json::from_str::<RideEvent>(&entry.value).unwrap(),
            event
        );
    }
    app.assert_no_failures();
}

#[test]
fn a_fleet_is_taken_apart_by_its_router() {
    let mut app = city();
    let drivers = (0..30)
        .map(|number| (format!("d{number}"), CellId::new(number, 0)))
        .collect();
    app.ingest(
        "rides/fleet-locations",
        Record::new(FleetLocations { drivers }),
    )
    .run_until_idle();
    app.ingest("rides/metronome", Record::new(Tick { number: 1 }))
        .run_until_idle();
    let report = &app.egress(BOARD)[0];
    assert_eq!((report.cells, report.free_drivers), (30, 30));
    app.assert_no_failures();
}

#[test]
fn the_city_keeps_the_counters_that_the_configuration_names() {
    let mut app = city();
    let over = |counts: &[(&str, u64)]| RideOver {
        counts: counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect(),
    };
    app.ingest("rides/metronome", Record::new(Tick { number: 1 }))
        .run_until_idle();
    app.send(
        City::whole(),
        over(&[("ended", 1), ("revenue_cents", 700), ("moves", 9)]),
    );
    app.run_until_idle().restart();
    app.send(City::whole(), over(&[("ended", 1), ("revenue_cents", 50)]))
        .run_until_idle();
    app.ingest("rides/metronome", Record::new(Tick { number: 2 }))
        .run_until_idle();
    let reports = app.egress(BOARD);
    let metrics = |ended, cents| {
        BTreeMap::from([
            ("ended".to_owned(), ended),
            ("revenue_cents".to_owned(), cents),
        ])
    };
    assert_eq!(
        (reports[0].tick, reports[0].ticks_seen, &reports[0].metrics),
        (1, 1, &metrics(0, 0))
    );
    assert_eq!(
        (reports[1].tick, reports[1].ticks_seen, &reports[1].metrics),
        (2, 2, &metrics(2, 750))
    );
    app.assert_no_failures();
}

#[test]
fn a_count_that_the_next_tick_overtakes_is_given_up() {
    let mut app = city();
    located(&mut app, "dora", HERE);
    for number in 1..=3 {
        app.ingest("rides/metronome", Record::new(Tick { number }));
    }
    app.run_until_idle();
    let reports = app.egress(BOARD);
    assert_eq!(
        reports
            .iter()
            .map(|report| (report.tick, report.free_drivers))
            .collect::<Vec<_>>(),
        [(3, 1)]
    );
    app.assert_no_failures();
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused() {
    let problem = builder()
        .configuration("PRICE_PER_CELL", "a lot")
        .build()
        .unwrap_err()
        .to_string();
    assert!(
        problem.contains("PRICE_PER_CELL") && problem.contains("a lot"),
        "{problem}"
    );
}

/// Everybody does something at random, and now and then the process starts anew.
fn a_busy_day(seed: u64) -> (Summary, usize) {
    const CITY: u64 = 6;
    let mut app = builder().seed(seed).cache_bytes(20_000).build().unwrap();
    let mut random = Random::seeded(seed);
    let cell =
        |random: &mut Random| CellId::new(random.below(CITY) as u16, random.below(CITY) as u16);
    let mut drivers: Vec<(String, CellId, DriverOrders)> = (0..12)
        .map(|number| {
            let (name, at) = (format!("d{number}"), cell(&mut random));
            let orders = located(&mut app, &name, at);
            (name, at, orders)
        })
        .collect();
    let mut restarts = 0;
    for turn in 0..1500 {
        match random.below(20) {
            0 if turn % 10 == 0 => {
                app.restart();
                restarts += 1;
            }
            0..3 if turn < 1000 => {
                let passenger = format!("p{}", random.below(20));
                let (pickup, destination) = (cell(&mut random), cell(&mut random));
                app.send(
                    Passenger::at(passenger),
                    RequestRide {
                        pickup,
                        destination,
                    },
                );
                app.run(random.below(10) as usize);
            }
            3 => {
                app.advance(Duration::from_millis(random.below(2000)));
            }
            _ => {
                let (driver, at, orders) = &mut drivers[random.below(12) as usize];
                *at = at.step_towards(orders.go_to.unwrap_or_else(|| cell(&mut random)));
                *orders = app.call(
                    Driver::at(&driver),
                    LocationUpdate {
                        at: *at,
                        asks: random.below(4) == 0,
                    },
                );
                if orders.state == DriverState::Asked && random.below(2) == 0 {
                    *orders = answers(&mut app, driver, random.below(3) > 0);
                }
            }
        }
    }
    // Everybody goes on until all have arrived.
    for _ in 0..60 {
        for (driver, at, orders) in &mut drivers {
            *at = at.step_towards(orders.go_to.unwrap_or(*at));
            *orders = located(&mut app, driver, *at);
        }
        app.advance(Duration::from_secs(1));
    }
    app.assert_no_failures();
    assert!(app.waiting().is_empty());
    assert!(
        drivers
            .iter()
            .all(|(_, _, orders)| orders.state == DriverState::Free),
        "{drivers:?}"
    );
    let lines: Vec<String> = app
        .egress(EVENTS)
        .iter()
        .map(|event| serde_json::to_string(event).unwrap())
        .collect();
    (audit(&lines.join("\n"), "").unwrap(), restarts)
}

#[test]
fn on_busy_days_every_ride_comes_to_its_end_and_no_driver_is_stuck() {
    let (mut ended, mut failed, mut restarts) = (0, 0, 0);
    for seed in 0..8 {
        let (day, starts) = a_busy_day(seed);
        assert_eq!(day.under_way(), 0, "seed {seed}: {day:?}");
        (ended, failed, restarts) = (ended + day.ended, failed + day.failed, restarts + starts);
    }
    // Else the days were too quiet to show anything.
    assert!(
        ended > 300 && failed > 0 && restarts > 8,
        "{ended} ended, {failed} failed, {restarts} restarts"
    );
}
