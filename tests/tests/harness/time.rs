//! Virtual time: delayed messages and their cancellation, expiration.

use statefun_core::clock::Timestamp;
use statefun_core::prelude::*;
use statefun_core::testing::Harness;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "time/Ask")]
enum Ask {
    /// After so many ms, with a token.
    Send(u64, String, Option<String>),
    Cancel(String),
    /// Sends, takes back, and sends once more, in one invocation.
    Replace(u64, String),
    /// At the very same moment.
    SendAtOnce,
    /// Again and again, every second.
    Tick,
}

const SEEN: EgressId<String> = EgressId::new("time/seen");

#[stateful_function(typename = "time/clock", accepts(Ask, String), egress(SEEN))]
struct Clock {}

impl Handle<Ask> for Clock {
    fn handle(&mut self, ask: Ask, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let own = || Clock::at("x");
        match ask {
            Ask::Send(ms, text, None) => {
                ctx.send_after(Duration::from_millis(ms), own(), text);
            }
            Ask::Send(ms, text, Some(token)) => {
                ctx.send_after(Duration::from_millis(ms), own(), text)
                    .with_token(&token);
            }
            Ask::Cancel(token) => ctx.cancel(&token),
            Ask::Replace(ms, text) => {
                ctx.send_after(Duration::from_millis(ms), own(), "never".to_owned())
                    .with_token("t");
                ctx.cancel("t");
                ctx.send_after(Duration::from_millis(ms), own(), text)
                    .with_token("t");
            }
            Ask::SendAtOnce => {
                ctx.send_after(Duration::ZERO, own(), "at once".to_owned());
            }
            Ask::Tick => {
                ctx.egress(SEEN, &"tick".to_owned());
                ctx.send_after(Duration::from_secs(1), own(), Ask::Tick)
                    .with_token("tick");
            }
        }
        Ok(())
    }
}

impl Handle<String> for Clock {
    fn handle(&mut self, text: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let text = format!("{text}@{}", ctx.now().as_ms());
        ctx.egress(SEEN, &text);
        Ok(())
    }
}

fn app() -> Harness {
    Harness::builder()
        .function::<Clock>()
        .start(Timestamp(1_000))
        .build()
        .unwrap()
}

fn send(ms: u64, text: &str, token: Option<&str>) -> Ask {
    Ask::Send(ms, text.to_owned(), token.map(str::to_owned))
}

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn delayed_messages_come_at_their_time_and_in_their_order() {
    for restarts in [false, true] {
        let mut app = app();
        for (ms, text) in [(30, "c"), (10, "a"), (20, "b"), (10, "a2"), (500, "late")] {
            app.send(Clock::at("x"), send(ms, text, None));
        }
        app.run_until_idle();
        assert_eq!(app.egress(SEEN), [""; 0]);
        app.advance(MS(9));
        assert_eq!(app.egress(SEEN), [""; 0]);
        if restarts {
            app.restart();
        }
        app.advance(MS(1));
        assert_eq!(app.take_egress(SEEN), ["a@1010", "a2@1010"]);
        app.advance(MS(100));
        assert_eq!(app.take_egress(SEEN), ["b@1020", "c@1030"]);
        assert_eq!(app.now(), Timestamp(1_110));
        app.advance(Duration::from_secs(1));
        assert_eq!(app.take_egress(SEEN), ["late@1500"]);
    }
}

#[test]
fn what_a_timer_leads_to_happens_on_the_way() {
    let mut app = app();
    app.send(Clock::at("x"), Ask::Tick)
        .advance(Duration::from_millis(4_500));
    assert_eq!(app.take_egress(SEEN).len(), 5);
    app.send(Clock::at("x"), Ask::Cancel("tick".to_owned()))
        .advance(Duration::from_mins(1));
    assert_eq!(app.take_egress(SEEN).len(), 0);
}

#[test]
fn a_cancelled_message_does_not_come() {
    for restarts in [false, true] {
        let mut app = app();
        app.send(Clock::at("x"), send(10, "one", Some("t")))
            .run_until_idle();
        app.send(Clock::at("x"), send(10, "other", Some("u")))
            .run_until_idle();
        if restarts {
            app.restart();
        }
        app.send(Clock::at("x"), Ask::Cancel("t".to_owned()));
        app.send(Clock::at("x"), Ask::Cancel("unknown".to_owned()))
            .run_until_idle();
        app.advance(MS(10));
        assert_eq!(app.take_egress(SEEN), ["other@1010"]);
        // The token of one that has come stands for nothing any more.
        app.send(Clock::at("x"), send(10, "two", None))
            .send(Clock::at("x"), Ask::Cancel("u".to_owned()))
            .advance(MS(20));
        assert_eq!(app.take_egress(SEEN), ["two@1020"]);
    }
}

#[test]
fn a_token_is_of_its_address() {
    let mut app = app();
    app.send(Clock::at("x"), send(10, "x's", Some("t")))
        .send(Clock::at("y"), Ask::Cancel("t".to_owned()));
    app.advance(MS(10));
    assert_eq!(app.egress(SEEN), ["x's@1010"]);
}

#[test]
fn cancelling_within_the_invocation_takes_back_what_came_before_it() {
    let mut app = app();
    app.send(Clock::at("x"), Ask::Replace(10, "kept".to_owned()))
        .advance(MS(10));
    assert_eq!(app.take_egress(SEEN), ["kept@1010"]);
    app.send(Clock::at("x"), Ask::Replace(10, "gone".to_owned()))
        .send(Clock::at("x"), Ask::Cancel("t".to_owned()));
    app.advance(MS(10));
    assert_eq!(app.egress(SEEN), [""; 0]);
}

#[test]
fn a_token_that_is_used_again_leaves_the_first_message_to_come() {
    let mut app = app();
    app.send(Clock::at("x"), send(10, "first", Some("t")))
        .send(Clock::at("x"), send(20, "second", Some("t")));
    app.run_until_idle().advance(MS(15));
    assert_eq!(app.take_egress(SEEN), ["first@1010"]);
    app.send(Clock::at("x"), Ask::Cancel("t".to_owned()))
        .advance(MS(10));
    assert_eq!(
        app.take_egress(SEEN),
        [""; 0],
        "the token stands for the second"
    );
}

#[test]
fn a_message_without_delay_comes_at_the_same_moment() {
    let mut app = app();
    app.send(Clock::at("x"), Ask::SendAtOnce).run_until_idle();
    assert_eq!(app.egress(SEEN), ["at once@1000"]);
}

#[stateful_function(typename = "time/session", accepts(i64, bool))]
struct Session {
    #[persisted(expire_after_write = "100ms")]
    written: PersistedValue<i64>,
    #[persisted(expire_after_access = "160ms")]
    used: PersistedValue<i64>,
    #[persisted(expire_after_write = "100ms")]
    table: PersistedTable<u8, i64>,
    #[persisted(expire_after_access = "160ms")]
    used_table: PersistedTable<u8, i64>,
    #[persisted]
    forever: PersistedValue<i64>,
}

/// Writes to all.
impl Handle<i64> for Session {
    fn handle(&mut self, value: i64, _: &mut Context<'_, Self>) -> HandlerResult {
        self.written.set(value);
        self.used.set(value);
        self.table.set(1, value);
        self.used_table.set(1, value);
        self.forever.set(value);
        Ok(())
    }
}

/// Reads all.
impl Handle<bool> for Session {
    fn handle(&mut self, _: bool, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let all = [
            self.written.get().copied(),
            self.used.get().copied(),
            self.table.get(&1)?.copied(),
            self.used_table.get(&1)?.copied(),
            self.forever.get().copied(),
        ];
        Ok(ctx.reply(format!("{:?}", all.map(Option::unwrap_or_default)))?)
    }
}

#[test]
fn states_expire_after_the_last_write_or_access() {
    for restarts in [false, true] {
        let mut app = Harness::builder().function::<Session>().build().unwrap();
        let read = |app: &mut Harness| -> String {
            if restarts {
                app.restart();
            }
            app.call(Session::at("x"), true)
        };
        app.send(Session::at("x"), 7).run_until_idle();
        app.advance(MS(99));
        assert_eq!(read(&mut app), "[7, 7, 7, 7, 7]");
        app.advance(MS(1));
        assert_eq!(
            read(&mut app),
            "[0, 7, 0, 7, 7]",
            "what was only read expires after its write"
        );
        for _ in 0..10 {
            app.advance(MS(100));
            assert_eq!(
                read(&mut app),
                "[0, 7, 0, 7, 7]",
                "what is read goes on living"
            );
        }
        app.advance(MS(159));
        let seen = app.state(Session::at("x"), |session| session.used.get().copied());
        assert_eq!(seen, Some(7), "and that the test looks is no access");
        app.advance(MS(1));
        assert_eq!(
            app.state(Session::at("x"), |session| session.used.get().copied()),
            None
        );
        assert_eq!(read(&mut app), "[0, 0, 0, 0, 7]");
        app.send(Session::at("x"), 8).run_until_idle();
        assert_eq!(read(&mut app), "[8, 8, 8, 8, 8]", "written anew");
    }
}
