//! The `statefun` command: scaffolds, validates, runs and inspects applications of stateful functions.

mod args;
mod cargo;
mod client;
mod commands;
mod describe;
mod figures;
mod image;
mod live;
mod project;
mod status;
mod table;
mod template;
mod terminal;
mod tls;
mod url;

use std::process::ExitCode;

use clap::Parser as _;

use args::Cli;
use status::Status;
use terminal::Terminal;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is fine; a reader that went away is no mistake of anyone.
            let _ = error.print();
            return if error.use_stderr() {
                Status::Usage.into()
            } else {
                Status::Fine.into()
            };
        }
    };
    let terminal = Terminal::new(cli.color);
    match commands::run(cli.command, &terminal) {
        Ok(status) => status.into(),
        Err(failure) => terminal.failure(&failure).into(),
    }
}
