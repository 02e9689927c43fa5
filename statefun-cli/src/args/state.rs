//! The arguments of `statefun state`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{AddressArgs, LiveArgs, ProjectArgs};

/// Shows, exports, compares and imports what functions have stored.
///
/// Asks the application that runs on the data directory, without holding it up, and sees all that its functions have answered. Where
/// none runs, the directory itself is read, and left as it was. With `--url`, an application anywhere is asked; with `--checkpoint`,
/// a checkpoint is read where it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun state ls                      what there is
  statefun state get shop/cart c-1       all states of one address
  statefun state export > state.jsonl    everything, an address a line
  statefun state get shop/cart c-1 --checkpoint latest
  statefun state diff checkpoint:latest  what has changed since then
  statefun state import state.jsonl      gives all of it to an application
  statefun state migrate --dry-run       whether new code reads what is stored
Exit codes: 0 fine, 1 wrong input (no such function or address, a wrong line),
2 wrong call, or something that is needed failed.")]
pub(crate) struct State {
    #[command(subcommand)]
    pub(crate) command: StateCommand,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    /// Read this checkpoint instead: an id, a name, or `latest`.
    #[arg(long, value_name = "WHICH", global = true, conflicts_with_all = ["data_dir", "url"])]
    pub(crate) checkpoint: Option<String>,
    /// Where the checkpoints are: `s3://bucket/prefix`, `gs://…`, `az://…`, a directory [default: as statefun.yaml says].
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) checkpoint_url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Lists functions with what they have stored, or the addresses of one.
    #[command(after_help = "\
Examples:
  statefun state ls
  statefun state ls shop/cart
  statefun state ls shop/cart c-1 --limit 1000 --format json")]
    Ls {
        /// The function's type, as in `shop/cart`.
        #[arg(value_name = "FUNCTION")]
        function: Option<String>,
        /// Only addresses whose ids begin with this.
        #[arg(value_name = "PREFIX")]
        prefix: Option<String>,
        /// At most so many addresses, by id.
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: usize,
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
    },
    /// Shows all states of an address, and when they expire.
    #[command(after_help = "\
Examples:
  statefun state get shop/cart c-1
  statefun state get shop/cart c-1 --format json | jq .states.total")]
    Get {
        #[command(flatten)]
        address: AddressArgs,
        /// How the states are written.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
    },
    /// Lists the addresses that have stored the most.
    #[command(after_help = "\
Examples:
  statefun state top
  statefun state top shop/cart --by rows --limit 50")]
    Top {
        /// Only those of this function.
        #[arg(value_name = "FUNCTION")]
        function: Option<String>,
        /// What counts.
        #[arg(long, value_enum, default_value_t)]
        by: TopMeasure,
        /// At most so many.
        #[arg(long, value_name = "NUMBER", default_value_t = 10)]
        limit: usize,
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
    },
    /// Writes states as JSON, an address a line.
    ///
    /// All lines are of one moment: of the epoch that is told at the end. `statefun state import` reads them back as they were,
    /// bytes, large numbers and expiry times included. An address with more than about a MiB goes on in the lines that follow,
    /// which say `"part":2` and so on. If the exit code is not 0, lines are missing.
    #[command(after_help = "\
Examples:
  statefun state export > state.jsonl
  statefun state export shop/cart c- -o carts.jsonl
  statefun state export shop/cart | jq -c 'select(.states.total > 100) | .id'")]
    Export {
        /// Only the states of this function.
        #[arg(value_name = "FUNCTION")]
        function: Option<String>,
        /// Only those of addresses whose ids begin with this.
        #[arg(value_name = "PREFIX")]
        prefix: Option<String>,
        /// File to write, replaced when all of it is there [default: standard output].
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Shows what differs between two states: before and now.
    ///
    /// Both are read row by row, so that they may be of any size. Prints how many addresses and rows were added, removed and changed,
    /// and the first of the changes; with `--format json` all changes, a line each.
    #[command(after_help = "\
Examples:
  statefun state diff checkpoint:latest         from there to now
  statefun state diff checkpoint:monday checkpoint:tuesday
  statefun state diff backup/data --function shop/cart --format json
Exit codes: 0 compared, different or not, 1 wrong input, 2 it failed.")]
    Diff {
        /// What has the state before: a data directory, or `checkpoint:` and an id, a name, or `latest`.
        #[arg(value_name = "BEFORE")]
        before: String,
        /// What has the state after [default: the application].
        #[arg(value_name = "AFTER")]
        after: Option<String>,
        /// Only the states of this function.
        #[arg(long, value_name = "NAMESPACE/NAME")]
        function: Option<String>,
        /// Only addresses whose ids begin with this.
        #[arg(long, value_name = "PREFIX", requires = "function", default_value = "")]
        #[arg(hide_default_value = true)]
        prefix: String,
        /// Show at most so many changes.
        #[arg(long, value_name = "NUMBER", default_value_t = 20)]
        limit: usize,
        /// How changes are written.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
    },
    /// Gives functions state: lines of JSON, as `export` writes them, become what they have stored.
    ///
    /// All lines are checked first, by the types of the application's code, which is built for that; if one is wrong, nothing
    /// is imported. The application must not run; its data directory is made when there is none. Times of expiry that a
    /// line does not state are as if it were written now.
    #[command(after_help = "\
Examples:
  statefun state import state.jsonl --data-dir .statefun/data
  statefun state import customers.jsonl --dry-run
  zcat state.jsonl.gz | statefun state import - --replace
A line by hand:
  {\"function\":\"shop/cart\",\"id\":\"c-1\",\"states\":{\"total\":5,\"log\":[\"a\"]}}
Exit codes: 0 imported, 1 wrong lines or the application runs, 2 it failed.")]
    Import {
        /// What to import; `-` for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Let addresses that have state lose it, and get that of their lines instead.
        #[arg(long)]
        replace: bool,
        /// Check everything, and write nothing.
        #[arg(long)]
        dry_run: bool,
        /// Build the application with optimizations.
        #[arg(long, short)]
        release: bool,
        #[command(flatten)]
        project: ProjectArgs,
    },
    /// Tells, before a deploy, whether the code reads all that is stored.
    ///
    /// Builds the application, and reads every row of the newest checkpoint as it would: as it is, or by a migration that a state type
    /// declares (`#[persisted(version = 2, migrate_from = …)]`). Reports how many rows are of which version, which addresses would be parked
    /// and why, and what a start would refuse. Where no checkpoints are made, the data directory is read; the application must not run then.
    #[command(after_help = "\
Examples:
  statefun state migrate --dry-run
  statefun state migrate --dry-run --checkpoint before-2.0 --format json
Exit codes: 0 all of it is read, 1 some is not, 2 it failed.")]
    Migrate {
        /// Change nothing. Needed: states are migrated when they are read, there is nothing to be done before.
        #[arg(long, required = true)]
        dry_run: bool,
        /// Build the application with optimizations.
        #[arg(long, short)]
        release: bool,
        /// How the report is written.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
        #[command(flatten)]
        project: ProjectArgs,
    },
}

/// What the largest addresses are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum TopMeasure {
    /// By bytes.
    #[default]
    Bytes,
    /// By rows: values, entries of tables, elements of buffers.
    Rows,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum RowFormat {
    /// For people.
    #[default]
    Human,
    /// JSON, an object a line.
    Json,
}
