//! The command line.

mod build_image;
mod live;
mod state;
mod top;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use statefun_core::module::units::parse_duration;

use crate::terminal::Color;

pub(crate) use build_image::{BuildImage, Output};
pub(crate) use live::{LiveArgs, TOKEN_VARIABLE};
pub(crate) use state::{RowFormat, State, StateCommand, TopMeasure};
pub(crate) use top::{Top, TopFormat, TopSort};

const AFTER_HELP: &str = "\
Begin with an application of your own:
  statefun new hello && cd hello && statefun run

Exit codes: 0 fine, 1 wrong input (module.yaml, the code, a message),
2 wrong call, or something that is needed failed.";

/// Stateful functions: make, check, run and inspect applications.
#[derive(Debug, Parser)]
#[command(name = "statefun", version, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// When to colour: `auto` (on a terminal, unless `NO_COLOR` is set), `always`, `never`.
    #[arg(long, value_enum, default_value_t, global = true, value_name = "WHEN")]
    #[arg(
        hide_possible_values = true,
        hide_default_value = true,
        display_order = 1_000
    )]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    New(New),
    Validate(Validate),
    Run(Run),
    Graph(Graph),
    BuildImage(BuildImage),
    Send(Send),
    Call(Call),
    Top(Top),
    Parked(Parked),
    State(State),
    Checkpoint(Checkpoint),
    Completions(Completions),
}

/// Where the application is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProjectArgs {
    /// Cargo.toml of the application [default: the nearest one here or above].
    #[arg(long, value_name = "PATH")]
    pub(crate) manifest_path: Option<PathBuf>,
    /// Which program of the package is the application, where it has several.
    #[arg(long, value_name = "NAME")]
    pub(crate) bin: Option<String>,
    /// module.yaml to read; may be repeated [default: module.yaml and modules/*.yaml beside Cargo.toml].
    #[arg(long = "module", value_name = "FILE")]
    pub(crate) modules: Vec<PathBuf>,
}

/// Makes a new application from a template.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun new hello                          HTTP in, a reply and e-mails out
  statefun new lines --template minimal       standard input to standard output
  statefun new rides --template ride-sharing  functions that talk to each other")]
pub(crate) struct New {
    /// Directory to make. Its last part becomes the name of the crate.
    #[arg(value_name = "NAME")]
    pub(crate) path: PathBuf,
    /// What to begin with.
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) template: TemplateName,
    /// Depend on the statefun-core of this checkout instead of a published version.
    #[arg(long, value_name = "DIR")]
    pub(crate) path_to_statefun: Option<PathBuf>,
    /// Do not make a git repository.
    #[arg(long)]
    pub(crate) no_git: bool,
}

/// The templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum TemplateName {
    /// Greets by HTTP, counts whom it has seen, and sends e-mails into a file.
    #[default]
    Greeter,
    /// Drivers, passengers, rides and the cells of a map.
    RideSharing,
    /// One function that counts lines from standard input.
    Minimal,
}

/// Proves the wiring: module.yaml by itself, and against the code.
///
/// Reads module.yaml first and prints what is wrong with it. Then it builds the application, asks it what functions, routers,
/// messages and egresses it has, and checks that all fits together: every target served, every type accepted, nothing
/// unreachable. All findings are reported at once, each with its place and how to mend it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun validate                       everything
  statefun validate --no-build            with what the code said last time
  statefun validate --format github       as annotations of a pull request
Exit codes: 0 no errors (warnings are fine), 1 errors, 2 the check failed.")]
pub(crate) struct Validate {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// How findings are written.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: FindingFormat,
    /// Do not build: use what the application said of itself last time.
    #[arg(long)]
    pub(crate) no_build: bool,
}

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum FindingFormat {
    /// For people, with the lines that each is about.
    #[default]
    Human,
    /// One JSON object; its layout has a version.
    Json,
    /// Workflow commands of GitHub Actions.
    Github,
}

/// Builds and starts the application.
///
/// Checks module.yaml, builds with the dev profile (or `--release`), and runs the application in its directory until it
/// ends or is stopped with Ctrl-C. Its state is kept in `.statefun/data` and is there again at the next start.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun run --watch                   restarts as you save, with its state
  statefun run --release --workers 4
  statefun run --restore latest          on an empty machine
  statefun run -- --drop-data shop/cart  what is behind `--` is passed on
The exit code is the application's.")]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Build with optimizations.
    #[arg(long, short)]
    pub(crate) release: bool,
    /// Rebuild and restart when the code, module.yaml or statefun.yaml change. A failing build leaves the old one running.
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Where the application keeps its data [default: .statefun/data, or as statefun.yaml says].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Worker threads [default: one per core, or as statefun.yaml says].
    #[arg(long, value_name = "NUMBER")]
    pub(crate) workers: Option<usize>,
    /// Begin with a checkpoint: `latest`, an id, or a name. The data directory must be empty; `auto` restores the latest only if it is.
    #[arg(long, value_name = "WHICH", conflicts_with = "watch")]
    pub(crate) restore: Option<String>,
    /// Let `--restore` delete what is in the data directory.
    #[arg(long, requires = "restore")]
    pub(crate) replace: bool,
    /// Arguments for the application.
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

/// Draws how messages flow: ingress, router, function, egress.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun graph
  statefun graph --format mermaid >> README.md
  statefun graph --format dot | dot -Tsvg > wiring.svg")]
pub(crate) struct Graph {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: GraphFormat,
    /// Do not build: use what the application said of itself last time.
    #[arg(long)]
    pub(crate) no_build: bool,
}

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum GraphFormat {
    /// For people.
    #[default]
    Text,
    /// For Markdown.
    Mermaid,
    /// For Graphviz.
    Dot,
    /// For programs; the layout has a version.
    Json,
}

/// What to send, and where.
#[derive(Debug, Args)]
pub(crate) struct MessageArgs {
    /// Id of an HTTP ingress in module.yaml (the part behind `/` will do), or a whole URL.
    #[arg(value_name = "INGRESS-OR-URL")]
    pub(crate) to: String,
    /// The message: JSON, `@file` for a file's content, `-` for standard input.
    #[arg(value_name = "MESSAGE")]
    pub(crate) message: String,
    /// Id of the instance that the message is for, where the ingress takes it from the path or a header.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Type of the message, where the ingress takes several.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) typename: Option<String>,
    /// Makes sending again safe: the same key with the same message takes effect once.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Where the application is, if not at the address that module.yaml names: `http://host:port` or `https://host:port`.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// PEM file of the authorities to trust with https, instead of those that the system trusts.
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// module.yaml to read; may be repeated [default: module.yaml and modules/*.yaml, here or above].
    #[arg(long = "module", value_name = "FILE")]
    pub(crate) modules: Vec<PathBuf>,
}

/// Sends a message to an HTTP ingress. Returns when the message is durable.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun send greets --id bob '{\"name\": \"Bob\"}'
  statefun send example/orders @order.json --idempotency-key order-17
  statefun send https://example.com/greets/bob '{}' --cacert ca.pem
  echo '{}' | statefun send http://127.0.0.1:8080/greets/bob -
Exit codes: 0 durable, 1 refused, 2 not reached, or busy.")]
pub(crate) struct Send {
    #[command(flatten)]
    pub(crate) message: MessageArgs,
}

/// Sends a message to an HTTP ingress, and prints the function's reply.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun call greets --id bob '{\"name\": \"Bob\"}'
  statefun call greets --id bob '{\"name\": \"Bob\"}' --wait 2s | jq .text
Exit codes: 0 answered, 1 refused, 2 not reached, or no answer in time.")]
pub(crate) struct Call {
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    /// How long to wait for the reply, as in `500ms` or `5s` [default: as long as the ingress allows].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
}

/// Shows addresses whose messages fail, and lets them go on.
///
/// When a function fails on a message again and again, only that address is parked: its messages wait in order, and all
/// other addresses go on. Mend the cause and `retry`, `skip` the message, or `drop` all that waits. The application must be
/// running.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun parked ls
  statefun parked show example/greeter bob
  statefun parked retry example/greeter bob
  statefun parked ls --url http://10.0.0.7:9464 --token-file token")]
pub(crate) struct Parked {
    #[command(subcommand)]
    pub(crate) command: ParkedCommand,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    /// How results are written.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) format: ListFormat,
}

/// How lists are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ListFormat {
    /// A table.
    #[default]
    Human,
    /// JSON, as the application answers it.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// Lists the addresses that are parked or about to be tried again.
    Ls {
        /// Only those of this function.
        #[arg(long, value_name = "NAMESPACE/NAME")]
        function: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: usize,
    },
    /// Shows one address: why it fails, and the messages that wait.
    Show {
        #[command(flatten)]
        address: AddressArgs,
        /// At most so many messages.
        #[arg(long, value_name = "NUMBER", default_value_t = 10)]
        messages: usize,
    },
    /// Tries the first message again, now.
    Retry(AddressArgs),
    /// Drops the first message, and goes on with the next.
    Skip(AddressArgs),
    /// Drops all messages that wait at the address. Its state stays.
    Drop {
        #[command(flatten)]
        address: AddressArgs,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// An instance of a function.
#[derive(Debug, Args)]
pub(crate) struct AddressArgs {
    /// The function's type, as in `example/greeter`.
    #[arg(value_name = "FUNCTION")]
    pub(crate) function: String,
    /// The instance's id.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Makes, lists, checks, restores and removes checkpoints.
///
/// A checkpoint is a consistent copy of everything that an application has, in an object store or a directory: `checkpoint: {url: …}` in
/// statefun.yaml. A running application makes one every so often and keeps the newest few; one with a name is kept until it is removed.
/// `ls`, `verify`, `restore` and `rm` need no running application.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun checkpoint create before-2.0     of the running application
  statefun checkpoint ls
  statefun checkpoint verify                reads and checks every object
  statefun checkpoint restore before-2.0 --data-dir /tmp/copy
  statefun run --restore latest             on a new machine
Exit codes: 0 fine, 1 wrong input or a damaged checkpoint, 2 not reached, or failed.")]
pub(crate) struct Checkpoint {
    #[command(subcommand)]
    pub(crate) command: CheckpointCommand,
    /// Where the checkpoints are: `s3://bucket/prefix`, `gs://…`, `az://…`, a directory [default: as statefun.yaml says].
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) checkpoint_url: Option<String>,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    /// How results are written.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) format: ListFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Makes a checkpoint of the running application. Returns when it is complete.
    Create {
        /// Its name. With one it is kept until it is removed; without, as long as those that are made every so often.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Lists the checkpoints, the newest first.
    Ls,
    /// Reads every object of a checkpoint, or of all, and names those that are damaged or missing.
    Verify {
        /// An id, a name, or `latest` [default: all].
        #[arg(value_name = "WHICH")]
        wanted: Option<String>,
    },
    /// Makes a data directory that is a copy of a checkpoint. The application goes on; `statefun run --restore` takes its place.
    Restore {
        /// An id, a name, or `latest`.
        #[arg(value_name = "WHICH")]
        wanted: String,
        /// Delete what is in the data directory.
        #[arg(long)]
        replace: bool,
    },
    /// Removes a checkpoint, and the objects that no other one needs.
    Rm {
        /// An id, or a name.
        #[arg(value_name = "WHICH")]
        wanted: String,
    },
}

/// Prints a script that completes this command's arguments in a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun completions bash > ~/.local/share/bash-completion/completions/statefun
  statefun completions zsh > ~/.zfunc/_statefun
  statefun completions fish > ~/.config/fish/completions/statefun.fish")]
pub(crate) struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}
