//! What checkpoints cost and how quickly they are restored: `cargo run --release -p statefun-tests --bin checkpoint-bench -- --help`.
//!
//! What runs is the application of `statefun_tests::bench`, as in greeter-bench.

mod blob;
mod cost;
mod delay;
mod hot;
mod options;
mod overhead;
mod restore;
mod subject;

use std::io::Write;
use std::process::ExitCode;

use statefun_tests::yardstick::{Failure, Report, fresh, runtime};

use self::options::{Asked, HELP, Options, Part};
use self::subject::Bench;

statefun_tests::measured_allocator!();

fn run(options: Options) -> Result<(), Failure> {
    fresh(&options.directory)?;
    std::fs::create_dir_all(&options.directory)?;
    let durable =
        "durable = fdatasync of the epoch log, and of checkpoints in a directory on the same disk";
    let report = Report::new(options.json, &options.directory, durable);
    let mut bench = Bench {
        runtime: runtime()?,
        options,
        report,
        left: None,
    };
    for part in bench.options.parts.clone() {
        match part {
            Part::Overhead => overhead::run(&mut bench)?,
            Part::Cost => cost::run(&mut bench)?,
            Part::Hot => hot::run(&mut bench)?,
            Part::Restore => restore::run(&mut bench)?,
            Part::Blob => blob::run(&mut bench)?,
        }
    }
    bench.report.finish()?;
    fresh(&bench.options.directory)
}

fn main() -> ExitCode {
    let done = match options::parse(std::env::args().skip(1)) {
        Ok(Asked::Measure(options)) => run(options),
        Ok(Asked::RestoreHere { from, to }) => restore::in_this_process(&from, &to),
        Ok(Asked::Help) => write!(std::io::stdout(), "{HELP}").map_err(Into::into),
        Err(problem) => {
            let _ = write!(std::io::stderr(), "checkpoint-bench: {problem}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "checkpoint-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
