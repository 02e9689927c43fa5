//! Seeds, one after the other; that a seed decides everything; and that the checker finds what is wrong.

use super::{Mutant, Outcome, Sim};

/// Seeds that one test runs when nobody asks for more.
const SEEDS: u64 = 100;

fn run(seed: u64, mutant: Option<Mutant>) -> Result<Outcome, String> {
    let mut sim = Sim::new(seed, mutant);
    sim.run()
        .map_err(|problem| format!("seed {seed}: {problem}\n{:?}\n{}", sim.shape, sim.trace))
}

fn check(seed: u64) -> Outcome {
    run(seed, None).unwrap_or_else(|problem| {
        panic!("{problem}\nreplay it with STATEFUN_SIM_SEED={seed}");
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Seeds are split over two tests, which run side by side.
fn some_seeds(offset: u64) {
    if let Some(seed) = number("STATEFUN_SIM_SEED") {
        if offset == 0 {
            println!("{:?}", check(seed));
        }
        return;
    }
    let count = number("STATEFUN_SIM_SEEDS").unwrap_or(2 * SEEDS);
    let first = number("STATEFUN_SIM_FIRST").unwrap_or(0);
    let mut total = Outcome {
        trace: 0,
        epochs: 0,
        restarts: 0,
        handled: 0,
    };
    for seed in (first..first + count).filter(|seed| seed % 2 == offset) {
        let outcome = check(seed);
        total.epochs += outcome.epochs;
        total.restarts += outcome.restarts;
        total.handled += outcome.handled;
    }
    println!("{total:?}");
}

#[test]
fn even_seeds_keep_every_promise() {
    some_seeds(0);
}

#[test]
fn odd_seeds_keep_every_promise() {
    some_seeds(1);
}

#[test]
fn one_seed_gives_one_course_of_events() {
    for seed in [3, 8] {
        assert_eq!(check(seed), check(seed));
    }
    assert_ne!(check(3).trace, check(8).trace);
}

/// A fault of the harness must be found within so many seeds, and be seen in this way.
fn is_found(mutant: Mutant, seeds: u64, as_what: &str) {
    let found = (0..seeds)
        .filter_map(|seed| run(seed, Some(mutant)).err())
        .find(|problem| {
            let problem = problem.lines().next().unwrap_or_default();
            println!("{mutant:?}: {problem}");
            problem.contains(as_what)
        });
    assert!(found.is_some(), "nobody noticed {mutant:?}");
}

/// The log's content is missed when a start after a power cut needs it.
#[test]
fn notices_a_log_that_goes_too_early() {
    let after = "after a crash (Some(Power)) the store has epoch";
    is_found(Mutant::LogGoesTooEarly, 60, after);
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident;)*) => {
        $(#[test]
        fn $name() {
            is_found(Mutant::$mutant, 20, "");
        })*
    };
}
mutants! {
    notices_what_was_in_flight_and_is_not_recorded: ForgetInFlight;
    notices_a_cut_that_completes_too_early: FrontierTooEarly;
    notices_output_of_epochs_that_are_not_durable: ReleaseBeforeDurable;
    notices_what_is_half_done: HalfDone;
    notices_a_carried_message_that_is_lost: LoseCarried;
    notices_a_carried_message_that_comes_twice: DoubleCarried;
    notices_a_source_that_repeats: SourceRepeats;
    notices_batches_that_overtake: NetworkReorders;
    notices_a_row_that_is_not_applied: ApplyLosesRow;
    notices_time_that_runs_back: TimeRunsBack;
    notices_a_sink_that_doubles: SinkDoubles;
    notices_a_label_that_is_too_late: LabelTooLate;
    notices_a_look_at_expired_rows_that_is_never_too_old: TimelessLook;
    notices_records_that_were_read_ahead_and_are_lost: ReadAheadCounts;
    notices_a_bad_record_that_goes_nowhere: LetterLost;
    notices_an_answer_before_its_request_is_durable: AnswersTooEarly;
    notices_epochs_that_are_not_read_back: EpochsLeftOut;
    notices_what_counts_as_applied_when_it_is_handed_over: AppliedTooEarly;
    notices_what_a_full_store_did_not_take: FullStoreForgotten;
}
