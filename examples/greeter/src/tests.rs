//! The functions, in memory and in virtual time.

use statefun::io::ingress::Record;
use statefun::prelude::*;
use statefun::testing::Harness;

use crate::functions::{EMAILS, Email, EmailSender, GreetRequest, Greeter, Greeting};

/// The application as it is linked.
fn app() -> Harness {
    Harness::builder().linked().build().unwrap()
}

fn request(user: &str, name: &str) -> GreetRequest {
    GreetRequest {
        user_id: user.to_owned(),
        first_name: name.to_owned(),
    }
}

fn email(to: &str, number: u32, body: &str) -> Email {
    Email {
        to: to.to_owned(),
        number,
        body: body.to_owned(),
    }
}

#[test]
fn greetings_follow_how_often_somebody_was_seen() {
    let mut app = app();
    let mut greet = |user: &str, name: &str| {
        app.call::<_, _, Greeting>(Greeter::at(user), request(user, name))
            .text
    };
    assert_eq!(greet("ada", "Ada"), "Welcome, Ada!");
    assert_eq!(greet("ada", "Ada"), "Nice to see you again, Ada.");
    assert_eq!(greet("bob", "Bob"), "Welcome, Bob!");
    assert_eq!(greet("ada", "Ada"), "Third time lucky, Ada!");
    assert_eq!(
        greet("ada", "Ada"),
        "Hello Ada, you have been here 4 times."
    );
    app.assert_no_failures();
}

#[test]
fn records_of_the_ingress_become_emails_in_order() {
    let mut app = app();
    for (user, name) in [("ada", "Ada"), ("bob", "Bob"), ("ada", "Ada")] {
        app.ingest("example/greets", Record::new(request(user, name)));
    }
    app.run_until_idle();
    let emails = app.take_egress(EMAILS);
    let to = |user: &str| {
        emails
            .iter()
            .filter(|email| email.to == user)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        to("ada"),
        [
            email("ada", 1, "Welcome, Ada!"),
            email("ada", 2, "Nice to see you again, Ada.")
        ]
    );
    assert_eq!(to("bob"), [email("bob", 1, "Welcome, Bob!")]);
    app.assert_no_failures();
}

#[test]
fn what_was_counted_is_there_after_a_restart() {
    let mut app = app();
    app.send(Greeter::at("ada"), request("ada", "Ada"))
        .run_until_idle()
        .restart();
    app.send(Greeter::at("ada"), request("ada", "Ada"))
        .run_until_idle();
    assert_eq!(
        app.egress(EMAILS).last(),
        Some(&email("ada", 2, "Nice to see you again, Ada."))
    );
    app.assert_no_failures();
}

#[test]
fn nobody_is_told_who_does_not_ask() {
    let mut app = app();
    app.send(Greeter::at("ada"), request("ada", "Ada"))
        .run_until_idle();
    let sent: Vec<Address> = app
        .sent()
        .iter()
        .filter(|sent| sent.from.is_some())
        .map(|sent| sent.to.clone())
        .collect();
    assert_eq!(sent, [EmailSender::at("ada").into_address()]);
    app.assert_no_failures();
}
