//! `statefun state migrate --dry-run`: the application's binary reads all that is stored, as it would after a deploy.

use std::path::Path;

use super::application::Call;
use crate::args::{ProjectArgs, RowFormat};
use crate::status::{Outcome, Status};

/// What is read, and how the result is written.
pub(super) struct Options<'a> {
    pub(super) checkpoint: Option<&'a str>,
    pub(super) checkpoint_url: Option<&'a str>,
    pub(super) data_dir: Option<&'a Path>,
    pub(super) release: bool,
    pub(super) format: RowFormat,
}

pub(super) fn run(options: &Options<'_>, project: &ProjectArgs) -> Outcome {
    let Some(mut call) = Call::build("migrate", project, options.release)? else {
        return Ok(Status::WrongInput);
    };
    call.arg("--dry-run");
    if let Some(checkpoint) = options.checkpoint {
        call.arg("--checkpoint");
        call.arg(checkpoint);
    }
    if let Some(url) = options.checkpoint_url {
        call.variable("STATEFUN_CHECKPOINT_URL", url);
    }
    if let Some(data_dir) = options.data_dir {
        call.arg("--data-dir");
        call.path(data_dir)?;
    }
    if options.format == RowFormat::Json {
        call.arg("--json");
    }
    call.run()
}
