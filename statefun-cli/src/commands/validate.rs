//! `statefun validate`: module.yaml by itself, then against the code.

use statefun_core::module::description::DESCRIPTION_VERSION;
use statefun_core::module::model::{Availability, KINDS};
use statefun_core::module::render::{Format, render, summary};
use statefun_core::module::{
    Application, BuildFeatures, Finding, Findings, check, check_reserved_ports,
};

use crate::args::{FindingFormat, Validate};
use crate::describe::Code;
use crate::project::{Project, settings};
use crate::status::{Failure, Outcome, Status};
use crate::terminal::Terminal;

pub(crate) fn run(args: &Validate, terminal: &Terminal) -> Outcome {
    let project = Project::find(&args.project)?;
    if project.modules.is_empty() && project.package.is_none() {
        return Err(nothing_here());
    }
    let (application, loaded) = project.load();
    let reserved: Vec<_> = settings(&project.root)?
        .operations
        .reserved_port()
        .into_iter()
        .collect();
    let loaded = loaded.and(check_reserved_ports(&application, &reserved));
    let early = yaml_findings(&application, &loaded);
    let format = match args.format {
        FindingFormat::Human => Format::Human(terminal.report_options()),
        FindingFormat::Json => Format::Json,
        FindingFormat::Github => Format::Github,
    };
    // A person need not wait for the compiler to see what is wrong in the file.
    let person = args.format == FindingFormat::Human;
    if person {
        terminal.data(render(&early, application.sources(), format))?;
    }
    let code = Code::ask(&project, args.no_build, terminal)?;
    let all = match &code {
        Code::Described(description) => {
            let features = BuildFeatures::of_application(description);
            loaded.and(check(&application, Some(description), &features))
        }
        Code::BuildFailed | Code::Absent => early.clone(),
    };
    let rest = if person {
        without(&all, &early)
    } else {
        all.clone()
    };
    terminal.data(render(&rest, application.sources(), format))?;
    conclude(&application, &code, &all, terminal);
    Ok(match (&code, all.has_errors()) {
        (_, true) | (Code::BuildFailed, _) => Status::WrongInput,
        (_, false) => Status::Fine,
    })
}

/// What module.yaml shows by itself. Which features the application has is for its code to say.
pub(crate) fn yaml_findings(application: &Application, loaded: &Findings) -> Findings {
    loaded
        .clone()
        .and(check(application, None, &all_features()))
}

pub(crate) fn nothing_here() -> Failure {
    Failure::usage("there is neither a module.yaml nor a Cargo.toml here or above").help(
        "`statefun new NAME` makes an application; `--module FILE` and `--manifest-path PATH` name one elsewhere",
    )
}

/// Every feature that wiring can need.
fn all_features() -> BuildFeatures {
    let of_kinds = KINDS.iter().filter_map(|kind| match kind.availability {
        Availability::Ready { feature, .. } => feature,
        Availability::NotYet { .. } => None,
    });
    BuildFeatures::of(of_kinds.chain(["tls"]))
}

fn without(all: &Findings, known: &Findings) -> Findings {
    let known: Vec<&Finding> = known.iter().collect();
    Findings::new(
        all.iter()
            .filter(|finding| !known.contains(finding))
            .cloned()
            .collect(),
    )
}

fn conclude(application: &Application, code: &Code, findings: &Findings, terminal: &Terminal) {
    let files = match application.sources().iter().count() {
        0 => "no module.yaml".to_owned(),
        1 => "1 file".to_owned(),
        number => format!("{number} files"),
    };
    let components = counted(application.components().len(), "component", "components");
    let looked_at = match code {
        Code::Described(description) if description.version == DESCRIPTION_VERSION => format!(
            "{files}, {components}, {}, {}",
            counted(description.functions.len(), "function", "functions"),
            counted(description.routers.len(), "router", "routers"),
        ),
        _ => format!("{files}, {components}"),
    };
    let found = match summary(findings) {
        none if none.is_empty() && matches!(code, Code::Described(_)) => "all fine".to_owned(),
        none if none.is_empty() => "nothing wrong in itself".to_owned(),
        some => some,
    };
    terminal.note(format_args!("{} ({looked_at})", terminal.strong(&found)));
    let unchecked = "whether targets, routers and egresses exist and types fit is not checked";
    match code {
        Code::Described(_) => {}
        Code::BuildFailed => terminal.note(format_args!(
            "the application could not be built: {unchecked}"
        )),
        Code::Absent => terminal.note(format_args!("no Cargo.toml: {unchecked}")),
    }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}
