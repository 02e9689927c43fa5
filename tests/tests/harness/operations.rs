//! `ctx.spawn`: operations that succeed, fail, panic, wait, and are held or cut off.

use std::sync::Mutex;

use statefun_core::prelude::*;
use statefun_core::testing::{Harness, HarnessError};
use tokio::sync::oneshot;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "operations/Fetch")]
enum Fetch {
    Succeed(i64),
    Fail(String),
    Panic,
    /// Until somebody sends.
    Wait,
    Never,
    /// Several at once.
    Many(i64),
    /// Starts one and fails.
    StartAndFail,
    /// One with other metadata and output.
    Other,
}

type Fetched = AsyncResult<String, i64>;
type Flagged = AsyncResult<bool, String>;

#[stateful_function(
    typename = "operations/fetcher",
    accepts(Fetch, Fetched, Flagged),
    retry(max_attempts = 1)
)]
struct Fetcher {
    gate: Gate,
    #[persisted]
    ends: PersistedBuffer<String>,
}

/// What the operation that waits waits for.
#[derive(Default)]
struct Gate(Mutex<Option<oneshot::Receiver<i64>>>);

impl Handle<Fetch> for Fetcher {
    fn handle(&mut self, fetch: Fetch, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let name = format!("{fetch:?}");
        match fetch {
            Fetch::Succeed(value) => ctx.spawn(name, async move { Ok::<_, HandlerError>(value) }),
            Fetch::Fail(problem) => {
                ctx.spawn(
                    name,
                    async move { Err::<i64, _>(HandlerError::new(problem)) },
                );
            }
            Fetch::Panic => ctx.spawn(name, async {
                if name_of_panic().is_empty() {
                    Ok(1i64)
                } else {
                    panic!("told to panic") as Result<i64, HandlerError>
                }
            }),
            Fetch::Wait => {
                let gate = self.gate.0.lock().unwrap().take();
                ctx.spawn(name, async move {
                    let gate = gate.ok_or_else(|| HandlerError::new("no gate"))?;
                    Ok::<_, HandlerError>(gate.await?)
                });
            }
            Fetch::Never => ctx.spawn(name, std::future::pending::<Result<i64, HandlerError>>()),
            Fetch::Many(count) => {
                for number in 0..count {
                    ctx.spawn(
                        format!("{number}"),
                        async move { Ok::<_, HandlerError>(number) },
                    );
                }
            }
            Fetch::StartAndFail => {
                ctx.spawn(name, async { Ok::<i64, HandlerError>(1) });
                return Err(HandlerError::permanent("told to fail"));
            }
            Fetch::Other => ctx.spawn(true, async { Ok::<_, HandlerError>("other".to_owned()) }),
        }
        Ok(())
    }
}

fn name_of_panic() -> &'static str {
    "a name"
}

impl Handle<Fetched> for Fetcher {
    fn handle(&mut self, end: Fetched, _: &mut Context<'_, Self>) -> HandlerResult {
        self.ends
            .append(format!("{}: {:?}", end.metadata, end.outcome));
        Ok(())
    }
}

impl Handle<Flagged> for Fetcher {
    fn handle(&mut self, end: Flagged, _: &mut Context<'_, Self>) -> HandlerResult {
        self.ends
            .append(format!("{}: {:?}", end.metadata, end.outcome));
        Ok(())
    }
}

fn app() -> Harness {
    Harness::builder().function::<Fetcher>().build().unwrap()
}

fn ends(app: &mut Harness) -> Vec<String> {
    app.state(Fetcher::at("x"), |fetcher| fetcher.ends.view())
        .unwrap()
}

#[test]
fn each_end_comes_back_as_a_message() {
    let mut app = app();
    for fetch in [
        Fetch::Succeed(7),
        Fetch::Fail("no route".to_owned()),
        Fetch::Panic,
        Fetch::Other,
    ] {
        app.send(Fetcher::at("x"), fetch)
            .run_until_idle()
            .assert_no_failures();
    }
    assert_eq!(
        ends(&mut app),
        [
            "Succeed(7): Success(7)",
            "Fail(\"no route\"): Failure(\"no route\")",
            "Panic: Unknown",
            "true: Success(\"other\")"
        ]
    );
    assert!(app.operations().is_empty());
}

#[test]
fn operations_end_in_the_order_of_their_start_when_nothing_delays_them() {
    let mut app = app();
    app.send(Fetcher::at("x"), Fetch::Many(50)).run_until_idle();
    assert_eq!(
        ends(&mut app),
        (0..50)
            .map(|number| format!("{number}: Success({number})"))
            .collect::<Vec<_>>()
    );
}

#[test]
fn an_operation_starts_only_when_its_invocation_has_succeeded() {
    let mut app = app();
    app.hold_operations()
        .send(Fetcher::at("x"), Fetch::StartAndFail)
        .run_until_idle();
    assert_eq!(app.operations(), []);
    app.skip(Fetcher::at("x")).restart().run_until_idle();
    assert_eq!(
        ends(&mut app),
        [""; 0],
        "nor is anything known of it after a restart"
    );
}

#[test]
fn running_waits_for_operations_and_an_address_goes_on_meanwhile() {
    let (open, gate) = oneshot::channel();
    let gate = Mutex::new(Some(gate));
    let make = move || Fetcher {
        gate: Gate(Mutex::new(gate.lock().unwrap().take())),
        ends: PersistedBuffer::default(),
    };
    // The harness makes a first instance to look at.
    let mut app = Harness::builder()
        .factory(make_second(make))
        .build()
        .unwrap();
    app.send(Fetcher::at("x"), Fetch::Wait)
        .send(Fetcher::at("x"), Fetch::Succeed(1))
        .run(usize::MAX);
    assert_eq!(app.operations().len(), 2);
    open.send(9).unwrap();
    app.run_until_idle().assert_no_failures();
    let mut ends = ends(&mut app);
    ends.sort();
    assert_eq!(ends, ["Succeed(1): Success(1)", "Wait: Success(9)"]);
}

/// The first instance is a plain one.
fn make_second(make: impl Fn() -> Fetcher) -> impl Fn() -> Fetcher {
    let first = std::sync::atomic::AtomicBool::new(true);
    move || {
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            Fetcher {
                gate: Gate::default(),
                ends: PersistedBuffer::default(),
            }
        } else {
            make()
        }
    }
}

#[test]
fn an_operation_that_never_ends_fails_the_test_and_names_its_address() {
    let mut app = Harness::builder()
        .function::<Fetcher>()
        .operation_timeout(Duration::from_millis(20))
        .build()
        .unwrap();
    app.send(Fetcher::at("x"), Fetch::Never)
        .send(Fetcher::at("y"), Fetch::Succeed(1));
    let error = app.try_run_until_idle().unwrap_err();
    assert!(
        matches!(&error, HarnessError::OperationsPending { addresses, .. } if addresses.len() == 1),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .starts_with("operations of operations/fetcher/x have not ended after 20ms"),
        "{error}"
    );
    assert_eq!(app.operations(), [Fetcher::at("x").into_address()]);
}

#[test]
fn a_restart_leaves_the_end_of_open_operations_unknown() {
    for held in [true, false] {
        let mut app = Harness::builder()
            .function::<Fetcher>()
            .operation_timeout(Duration::from_millis(20))
            .build()
            .unwrap();
        if held {
            app.hold_operations();
        }
        app.send(Fetcher::at("x"), Fetch::Never)
            .send(Fetcher::at("x"), Fetch::Other);
        let _ = app.try_run_until_idle();
        app.restart();
        assert_eq!(app.operations(), []);
        app.run_until_idle().assert_no_failures();
        let mut ends = ends(&mut app);
        ends.sort();
        let other = if held {
            "true: Unknown"
        } else {
            "true: Success(\"other\")"
        };
        assert_eq!(ends, ["Never: Unknown", other]);
        app.restart().run_until_idle();
        assert_eq!(
            app.state(Fetcher::at("x"), |fetcher| fetcher.ends.len()),
            2,
            "that is said once"
        );
    }
}

#[test]
fn a_restart_before_anything_ran_starts_nothing_twice() {
    let mut app = app();
    app.send(Fetcher::at("x"), Fetch::Succeed(1))
        .restart()
        .run_until_idle();
    assert_eq!(ends(&mut app), ["Succeed(1): Success(1)"]);
}

#[test]
fn operations_are_completed_by_hand() {
    let mut app = app();
    app.hold_operations()
        .send(Fetcher::at("x"), Fetch::Never)
        .send(Fetcher::at("x"), Fetch::Other);
    app.send(Fetcher::at("y"), Fetch::Succeed(3))
        .run_until_idle();
    assert_eq!(app.operations().len(), 3);
    // The first with that metadata and output, though another was started before it.
    app.complete(Fetcher::at("x"), |flag: bool| {
        assert!(flag);
        AsyncOutcome::<String>::Failure("by hand".to_owned())
    });
    app.complete(Fetcher::at("x"), |name: String| {
        AsyncOutcome::Success(name.len() as i64)
    })
    .run_until_idle();
    assert_eq!(
        ends(&mut app),
        ["true: Failure(\"by hand\")", "Never: Success(5)"]
    );
    app.release_operations().run_until_idle();
    assert_eq!(
        app.state(Fetcher::at("y"), |fetcher| fetcher.ends.view())
            .unwrap(),
        ["Succeed(3): Success(3)"]
    );
}

#[test]
#[should_panic(
    expected = "no operation of operations/fetcher/x is held that was spawned with this metadata and output \
                           type; held are operations of operations/fetcher/x"
)]
fn completing_what_is_not_held_fails_the_test() {
    let mut app = app();
    app.hold_operations()
        .send(Fetcher::at("x"), Fetch::Never)
        .run_until_idle();
    app.complete(Fetcher::at("x"), |_: bool| {
        AsyncOutcome::Success(String::new())
    });
}

#[tokio::test]
async fn a_test_may_run_on_a_runtime_of_its_own() {
    let mut app = app();
    app.send(Fetcher::at("x"), Fetch::Succeed(7))
        .run_until_idle();
    assert_eq!(ends(&mut app), ["Succeed(7): Success(7)"]);
}

/// Spawns from the end of another, with that end as metadata.
#[stateful_function(typename = "operations/chain", accepts(i64, Fetched, AsyncResult<Fetched, Fetched>))]
struct Chain {
    #[persisted]
    ends: PersistedBuffer<String>,
}

impl Handle<i64> for Chain {
    fn handle(&mut self, number: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        ctx.spawn(
            "first".to_owned(),
            async move { Ok::<_, HandlerError>(number) },
        );
        Ok(())
    }
}

impl Handle<Fetched> for Chain {
    fn handle(&mut self, end: Fetched, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let output = end.clone();
        ctx.spawn(end, async move { Ok::<_, HandlerError>(output) });
        Ok(())
    }
}

impl Handle<AsyncResult<Fetched, Fetched>> for Chain {
    fn handle(
        &mut self,
        end: AsyncResult<Fetched, Fetched>,
        _: &mut Context<'_, Self>,
    ) -> HandlerResult {
        self.ends
            .append(format!("{:?} {:?}", end.metadata.outcome, end.outcome));
        Ok(())
    }
}

#[test]
fn ends_of_operations_nest_and_survive_a_restart() {
    let mut app = Harness::builder().function::<Chain>().build().unwrap();
    app.hold_operations()
        .send(Chain::at("x"), 7)
        .run_until_idle();
    app.complete(Chain::at("x"), |_: String| AsyncOutcome::Success(7))
        .run_until_idle();
    app.restart().run_until_idle().assert_no_failures();
    let ends = app
        .state(Chain::at("x"), |chain| chain.ends.view())
        .unwrap();
    assert_eq!(ends, ["Success(7) Unknown"]);
}
