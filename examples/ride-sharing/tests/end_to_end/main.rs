//! The application as it runs: a process, HTTP, files, `kill -9`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../process.rs"]
mod process;
mod rides;

use std::fs;
use std::process::{Command, Stdio};

use process::Application;
use ride_sharing::audit::audit;
use ride_sharing::grid::CellId;
use ride_sharing::messages::*;
use rides::{Rides as _, lines, start};

const HERE: CellId = CellId::new(5, 5);
const THERE: CellId = CellId::new(5, 8);

fn located(app: &Application, driver: &str, at: CellId, asks: bool) -> DriverOrders {
    app.ask(
        &format!("/drivers/{driver}/location"),
        None,
        &LocationUpdate { at, asks },
    )
}

fn events(app: &mut Application, count: usize) -> Vec<RideEvent> {
    let file = app.events();
    app.until(&format!("there are {count} events"), |_| {
        lines::<RideEvent>(&file).filter(|events| events.len() >= count)
    })
}

#[test]
fn a_ride_survives_being_killed_at_every_step() {
    let mut app = start(&[("OFFER_TIMEOUT", "1h"), ("TICK", "50ms")]);
    let request = RequestRide {
        pickup: HERE,
        destination: THERE,
    };
    assert_eq!(located(&app, "dora", HERE, true).state, DriverState::Free);
    let status = app.send(
        "/passengers/paul/request?wait=100ms",
        Some("first"),
        &request,
    );
    assert_eq!(status, 504, "the driver has not answered");
    app.until("the driver is asked", |app| {
        let orders: DriverOrders = app.ask("/drivers/dora/status", None, &AskStatus {});
        (orders.state == DriverState::Asked).then_some(())
    });

    app.kill_and_start_again();
    let orders: DriverOrders = app.ask(
        "/drivers/dora/answer",
        Some("yes"),
        &DriverAnswer { accept: true },
    );
    assert_eq!(orders.state, DriverState::ToPickup);
    // The same request once more: not another ride, but the answer to the first.
    let status: RideStatus = app.ask("/passengers/paul/request", Some("first"), &request);
    assert_eq!(
        (status.ride.as_str(), status.state),
        ("paul-1", RideState::Matched)
    );

    app.kill_and_start_again();
    assert_eq!(
        located(&app, "dora", HERE, true).state,
        DriverState::Driving
    );

    app.kill_and_start_again();
    let status: RideStatus = app.ask("/passengers/paul/request", Some("first"), &request);
    assert_eq!(
        (status.ride.as_str(), status.state),
        ("paul-1", RideState::Matched),
        "as it was answered first"
    );
    assert_eq!(located(&app, "dora", THERE, true).state, DriverState::Free);
    let price_cents = Some(250 + 3 * 120);
    let status = app.until("the ride has ended", |app| {
        let status: RideStatus = app.ask("/rides/paul-1/status", None, &AskStatus {});
        status.state.is_over().then_some(status)
    });
    assert_eq!(
        (status.state, status.price_cents),
        (RideState::Ended, price_cents)
    );

    let told = events(&mut app, 4);
    let steps: Vec<RideStep> = told.iter().map(|event| event.event).collect();
    assert_eq!(
        steps,
        [
            RideStep::Requested,
            RideStep::Matched,
            RideStep::Started,
            RideStep::Ended
        ]
    );
    let pages: JournalPages = app.ask("/rides/paul-1/journal", None, &AskJournal {});
    let journal: Vec<RideEvent> = pages
        .entries
        .iter()
        .map(|entry| serde_json::from_str(&entry.value).unwrap())
        .collect();
    assert_eq!(journal, told);

    // The metronome's position and what it changed go together, whatever happened in between.
    let report = app.until("the board shows the ride", |app| {
        app.board::<CityReport>()
            .filter(|report| report.metrics.get("ended") == Some(&1))
    });
    assert_eq!(report.tick, report.ticks_seen);
    app.kill_and_start_again();
    let later = app.until("the metronome goes on", |app| {
        app.board::<CityReport>()
            .filter(|later| later.tick > report.tick)
    });
    assert_eq!(later.tick, later.ticks_seen);
    assert_eq!(later.metrics, report.metrics);

    app.stop();
    let written = fs::read(app.events()).unwrap();
    app.start_again();
    app.stop();
    assert_eq!(fs::read(app.events()).unwrap(), written);
}

#[test]
fn an_offer_expires_though_the_process_dies() {
    let mut app = start(&[
        ("OFFER_TIMEOUT", "500ms"),
        ("SEARCH_PAUSE", "100ms"),
        ("SEARCH_ROUNDS", "1000"),
    ]);
    located(&app, "dora", HERE, true);
    let status = app.send(
        "/passengers/paul/request",
        None,
        &RequestRide {
            pickup: HERE,
            destination: THERE,
        },
    );
    assert_eq!(status, 202);
    events(&mut app, 1);
    app.kill_and_start_again();
    located(&app, "dick", CellId::new(HERE.x + 1, HERE.y), false);
    let status = app.until("another driver has the ride", |app| {
        let status: RideStatus = app.ask("/rides/paul-1/status", None, &AskStatus {});
        (status.state == RideState::Matched).then_some(status)
    });
    assert_eq!(status.driver.as_deref(), Some("dick"));
    let orders = app.until("the offer is withdrawn", |app| {
        let orders: DriverOrders = app.ask("/drivers/dora/status", None, &AskStatus {});
        (orders.state == DriverState::Free).then_some(orders)
    });
    assert_eq!(orders.ride, None);
}

#[test]
fn a_crowd_does_not_notice_two_kills() {
    let mut app = start(&[
        ("OFFER_TIMEOUT", "300ms"),
        ("SEARCH_PAUSE", "100ms"),
        ("ROUTE_DELAY", "100ms"),
        ("TICK", "100ms"),
    ]);
    let mut generator = Command::new(env!("CARGO_BIN_EXE_generator"));
    generator.args([
        "--url",
        &app.url(),
        "--drivers",
        "60",
        "--passengers",
        "40",
        "--seconds",
        "8",
        "--grid",
        "8",
    ]);
    generator
        .args([
            "--step",
            "50ms",
            "--undecided",
            "10",
            "--connections",
            "16",
            "--events",
        ])
        .arg(app.events());
    let generator = generator
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for lines in [40, 160] {
        events(&mut app, lines);
        app.kill_and_start_again();
    }
    let output = generator.wait_with_output().unwrap();
    let summary = String::from_utf8(output.stdout).unwrap();
    // It has compared what the passengers were told with the file.
    assert!(output.status.success(), "{summary}");
    assert!(
        summary.contains("exactly once, and as the passengers were told"),
        "{summary}"
    );
    app.stop();
    let rides = audit(&fs::read_to_string(app.events()).unwrap(), "").unwrap();
    assert_eq!(rides.under_way(), 0);
    assert!(rides.ended > 20, "{summary}");
}

#[test]
fn a_configuration_that_cannot_be_used_is_an_error_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ride-sharing"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PRICE_PER_CELL", "a lot")
        .env("STATEFUN_DATA_DIR", directory.path().join("data"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("PRICE_PER_CELL") && said.contains("a lot"),
        "{said}"
    );
    assert!(!directory.path().join("data").exists());
}
