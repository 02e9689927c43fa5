//! `statefun completions`: scripts for shells.

use clap::CommandFactory as _;

use crate::args::{Cli, Completions};
use crate::status::{Outcome, Status};
use crate::terminal::Terminal;

pub(crate) fn run(args: &Completions, terminal: &Terminal) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "statefun", &mut script);
    terminal.data(script)?;
    Ok(Status::Fine)
}
