//! The commands, a file each. A command returns how it ended; none of them exits by itself.

mod build_image;
mod checkpoint;
mod completions;
mod graph;
mod new;
mod parked;
mod run;
mod send;
mod state;
mod top;
mod validate;

use crate::args::Command;
use crate::status::Outcome;
use crate::terminal::Terminal;

/// Runs a command.
pub(crate) fn run(command: Command, terminal: &Terminal) -> Outcome {
    match command {
        Command::New(args) => new::run(&args, terminal),
        Command::Validate(args) => validate::run(&args, terminal),
        Command::Graph(args) => graph::run(&args, terminal),
        Command::BuildImage(args) => build_image::run(&args, terminal),
        Command::Completions(args) => completions::run(&args, terminal),
        Command::Run(args) => run::run(&args, terminal),
        Command::Send(args) => send::send(&args, terminal),
        Command::Call(args) => send::call(&args, terminal),
        Command::Top(args) => top::run(&args, terminal),
        Command::Parked(args) => parked::run(&args, terminal),
        Command::State(args) => state::run(&args, terminal),
        Command::Checkpoint(args) => checkpoint::run(&args, terminal),
    }
}
