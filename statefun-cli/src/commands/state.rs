//! `statefun state`: what functions have stored.

mod application;
mod diff;
mod export;
mod get;
mod import;
mod migrate;
mod source;

use statefun_core::inspect::{AddressSize, FunctionSize, Measure, Query};

use crate::args::{RowFormat, State, StateCommand, TopMeasure};
use crate::status::{Failure, Outcome, Status};
use crate::table::{grouped, printable, size, table};
use crate::terminal::Terminal;

use source::{Answered, Source, told};

pub(crate) fn run(args: &State, terminal: &Terminal) -> Outcome {
    refuse_url(args)?;
    if let StateCommand::Migrate {
        release,
        format,
        project,
        ..
    } = &args.command
    {
        let options = migrate::Options {
            checkpoint: args.checkpoint.as_deref(),
            checkpoint_url: args.checkpoint_url.as_deref(),
            data_dir: args.live.data_dir.as_deref(),
            release: *release,
            format: *format,
        };
        return migrate::run(&options, project);
    }
    if let StateCommand::Import {
        file,
        replace,
        dry_run,
        release,
        project,
    } = &args.command
    {
        if args.checkpoint.is_some() {
            return Err(Failure::usage("a checkpoint cannot be imported into").help(
                "`statefun checkpoint restore` makes a data directory from it; import into that",
            ));
        }
        let options = import::Options {
            file,
            data_dir: args.live.data_dir.as_deref(),
            replace: *replace,
            dry_run: *dry_run,
            release: *release,
        };
        return import::run(&options, project);
    }
    let url = args.checkpoint_url.as_deref();
    if let StateCommand::Diff {
        before,
        after,
        function,
        prefix,
        limit,
        format,
    } = &args.command
    {
        let after = match after {
            Some(after)
                if args.live.data_dir.is_some()
                    || args.live.url.is_some()
                    || args.checkpoint.is_some() =>
            {
                return Err(Failure::usage(format_args!(
                    "both states are named: {before} and {after}"
                ))
                .help("leave out `--data-dir`, `--url` and `--checkpoint`"));
            }
            Some(after) => Source::named(after, url)?,
            None => Source::find(&args.live, args.checkpoint.as_deref(), url)?,
        };
        let options = diff::Options {
            function: function.as_deref(),
            prefix,
            limit: *limit,
            format: *format,
        };
        return diff::run(&Source::named(before, url)?, &after, &options, terminal);
    }
    let source = Source::find(&args.live, args.checkpoint.as_deref(), url)?;
    match &args.command {
        StateCommand::Migrate { .. } | StateCommand::Import { .. } | StateCommand::Diff { .. } => {
            Ok(Status::Fine)
        }
        StateCommand::Ls {
            function: None,
            format,
            ..
        } => functions(&source, *format, terminal),
        StateCommand::Ls {
            function: Some(function),
            prefix,
            limit,
            format,
        } => {
            let query = Query::Addresses {
                function: function.clone(),
                prefix: prefix.clone().unwrap_or_default(),
                limit: *limit,
            };
            addresses(&source, &query, *format, terminal)
        }
        StateCommand::Top {
            function,
            by,
            limit,
            format,
        } => {
            let query = Query::Top {
                function: function.clone(),
                by: match by {
                    TopMeasure::Bytes => Measure::Bytes,
                    TopMeasure::Rows => Measure::Rows,
                },
                limit: *limit,
            };
            addresses(&source, &query, *format, terminal)
        }
        StateCommand::Get { address, format } => get::run(&source, address, *format, terminal),
        StateCommand::Export {
            function,
            prefix,
            output,
        } => {
            let query = Query::Export {
                function: function.clone(),
                prefix: prefix.clone().unwrap_or_default(),
            };
            export::run(&source, &query, output.as_deref(), terminal)
        }
    }
}

/// Building the application, and reading or writing data with it, is done where the data is.
fn refuse_url(args: &State) -> Result<(), Failure> {
    let command = match &args.command {
        StateCommand::Migrate { .. } => "migrate",
        StateCommand::Import { .. } => "import",
        _ => return Ok(()),
    };
    match &args.live.url {
        None => Ok(()),
        Some(url) => Err(Failure::usage(format_args!(
            "`--url {url}` names a running application, and `{command}` works on data"
        ))
        .help("name its directory with `--data-dir`, or where checkpoints are with `--checkpoint-url`")),
    }
}

/// Writes lines as they are.
fn raw(source: &Source, query: &Query, terminal: &Terminal) -> Result<Answered, Failure> {
    source.lines(query, terminal, &mut |line| {
        terminal.data([line, b"\n"].concat())
    })
}

fn functions(source: &Source, format: RowFormat, terminal: &Terminal) -> Outcome {
    if format == RowFormat::Json {
        raw(source, &Query::Functions, terminal)?;
        return Ok(Status::Fine);
    }
    let mut sizes: Vec<FunctionSize> = Vec::new();
    let answered = source.lines(&Query::Functions, terminal, &mut |line| {
        sizes.push(told(line)?);
        Ok(())
    })?;
    if sizes.is_empty() {
        terminal.note("there are no functions");
    } else {
        let rows: Vec<Vec<String>> = sizes
            .iter()
            .map(|size_of| {
                vec![
                    printable(&size_of.function),
                    grouped(size_of.addresses),
                    grouped(size_of.rows),
                    size(size_of.bytes),
                ]
            })
            .collect();
        terminal.data(table(
            &["FUNCTION", "ADDRESSES", "ROWS", "SIZE"],
            &rows,
            terminal,
        ))?;
    }
    Source::tell_end(&answered, terminal);
    Ok(Status::Fine)
}

fn addresses(source: &Source, query: &Query, format: RowFormat, terminal: &Terminal) -> Outcome {
    if format == RowFormat::Json {
        let answered = raw(source, query, terminal)?;
        tell_truncated(query, &answered, terminal);
        return Ok(Status::Fine);
    }
    let mut sizes: Vec<AddressSize> = Vec::new();
    let answered = source.lines(query, terminal, &mut |line| {
        sizes.push(told(line)?);
        Ok(())
    })?;
    if sizes.is_empty() {
        terminal.note("there are no addresses with state");
    } else {
        let rows: Vec<Vec<String>> = sizes
            .iter()
            .map(|size_of| {
                vec![
                    printable(&format!("{} {}", size_of.function, size_of.id)),
                    grouped(size_of.rows),
                    size(size_of.bytes),
                ]
            })
            .collect();
        terminal.data(table(&["FUNCTION AND ID", "ROWS", "SIZE"], &rows, terminal))?;
    }
    tell_truncated(query, &answered, terminal);
    Source::tell_end(&answered, terminal);
    Ok(Status::Fine)
}

fn tell_truncated(query: &Query, answered: &Answered, terminal: &Terminal) {
    if let (Query::Addresses { limit, .. }, true) = (query, answered.end.truncated) {
        terminal.note(format_args!(
            "there are more: `--limit {}` shows them",
            limit.saturating_mul(10).max(10)
        ));
    }
}
