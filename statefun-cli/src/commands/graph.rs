//! `statefun graph`: how messages flow.

use statefun_core::module::Graph as Wiring;
use statefun_core::module::description::{DESCRIPTION_VERSION, Description};
use statefun_core::module::render::{Format, render};
use statefun_core::module::{BuildFeatures, check};

use super::validate::nothing_here;
use crate::args::{Graph, GraphFormat};
use crate::describe::Code;
use crate::project::Project;
use crate::status::{Failure, Outcome, Status};
use crate::terminal::Terminal;

pub(crate) fn run(args: &Graph, terminal: &Terminal) -> Outcome {
    let project = Project::find(&args.project)?;
    if project.modules.is_empty() && project.package.is_none() {
        return Err(nothing_here());
    }
    let (application, findings) = project.load();
    let reports = Format::Human(terminal.note_options());
    if findings.has_errors() {
        terminal.note_text(&render(&findings, application.sources(), reports));
        return Err(Failure::input("module.yaml cannot be read in full")
            .help("mend what is reported above"));
    }
    let description = match Code::ask(&project, args.no_build, terminal)? {
        Code::Described(description) if description.version == DESCRIPTION_VERSION => *description,
        Code::Described(description) => {
            // The checks say which side to upgrade.
            let features = BuildFeatures::of_application(&description);
            let findings = check(&application, Some(&description), &features);
            terminal.note_text(&render(&findings, application.sources(), reports));
            return Err(Failure::input(
                "what the application says of itself cannot be read",
            ));
        }
        Code::BuildFailed => return Err(Failure::input("the application could not be built")),
        Code::Absent => {
            terminal.warning("no Cargo.toml: only what module.yaml says is drawn");
            Description::default()
        }
    };
    let wiring = Wiring::of(&application, &description);
    terminal.data(match args.format {
        GraphFormat::Text => wiring.to_text(),
        GraphFormat::Mermaid => wiring.to_mermaid(),
        GraphFormat::Dot => wiring.to_dot(),
        GraphFormat::Json => wiring.to_json(),
    })?;
    Ok(Status::Fine)
}
