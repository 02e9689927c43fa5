use statefun::prelude::*;
use statefun::testing::Harness;

use crate::functions::Greeter;
use crate::messages::{EMAILS, GreetRequest, Greeting};

fn request(user_id: &str) -> GreetRequest {
    GreetRequest {
        user_id: user_id.to_owned(),
        name: user_id.to_uppercase(),
    }
}

fn greet(app: &mut Harness, user_id: &str) -> Greeting {
    app.call(Greeter::at(user_id), request(user_id))
}

#[test]
fn greetings_depend_on_how_often_one_was_seen() {
    let mut app = Harness::new();
    assert_eq!(greet(&mut app, "ada").text, "Welcome, ADA!");
    assert_eq!(greet(&mut app, "ada").text, "Nice to see you again, ADA.");
    assert_eq!(greet(&mut app, "grace").text, "Welcome, GRACE!");

    // As if the process had ended in between: everything is written, and read back.
    app.restart();
    assert_eq!(
        greet(&mut app, "ada"),
        Greeting {
            seen: 3,
            text: "Third time lucky, ADA!".to_owned()
        }
    );
    app.assert_no_failures();
}

#[test]
fn nobody_need_wait_for_the_answer() {
    let mut app = Harness::new();
    app.send(Greeter::at("ada"), request("ada"))
        .run_until_idle();
    app.assert_no_failures();
    assert_eq!(app.egress(EMAILS).len(), 1);
}

#[test]
fn each_greeting_is_sent() {
    let mut app = Harness::new();
    greet(&mut app, "ada");
    greet(&mut app, "ada");
    let subjects: Vec<String> = app
        .take_egress(EMAILS)
        .into_iter()
        .map(|email| email.subject)
        .collect();
    assert_eq!(subjects, ["Visit 1", "Visit 2"]);
}

#[test]
fn the_same_email_is_sent_again_only_after_a_day() {
    use crate::functions::EmailSender;
    use crate::messages::Email;

    let email = || Email {
        user_id: "ada".to_owned(),
        subject: "Hello".to_owned(),
        body: "Hello".to_owned(),
    };
    let mut app = Harness::new();
    app.send(EmailSender::at("ada"), email())
        .send(EmailSender::at("ada"), email())
        .run_until_idle();
    assert_eq!(app.egress(EMAILS).len(), 1);
    app.advance(Duration::from_secs(24 * 3600 + 1));
    app.send(EmailSender::at("ada"), email()).run_until_idle();
    assert_eq!(app.egress(EMAILS).len(), 2);
}
