//! `statefun build-image`: proves the wiring, builds, and writes an image.

mod push;

use std::path::PathBuf;

use statefun_core::module::render::{Format, render, summary};
use statefun_core::module::{BuildFeatures, Findings, check};

use super::validate::{nothing_here, yaml_findings};
use crate::args::{BuildImage, Output};
use crate::cargo::Package;
use crate::describe;
use crate::image::build::{Build, End, allocator};
use crate::image::crates::Crates;
use crate::image::labels::{Labels, Revision, created};
use crate::image::layers::{self, Parts};
use crate::image::package::Image;
use crate::image::start::{Place, commands};
use crate::image::target::{Compiler, Libc, LibcChoice, Target};
use crate::image::wiring::{Surroundings, Wiring};
use crate::image::{archive, certificates, layout, libraries, names, sbom, timezones};
use crate::project::Project;
use crate::status::{Failure, Outcome, Status};
use crate::terminal::Terminal;

pub(crate) fn run(args: &BuildImage, terminal: &Terminal) -> Outcome {
    let project = Project::find(&args.project)?;
    let Some(package) = project.package.clone() else {
        return Err(nothing_here());
    };
    let name = match &args.name {
        Some(name) => name.clone(),
        None => names::name_of_package(&package.name),
    };
    let tag = match &args.tag {
        Some(tag) => tag.clone(),
        None => names::tag_of_version(&package.about.version),
    };
    names::check_name(&name)?;
    names::check_tag(&tag)?;
    let push = push::target(args.push.as_ref(), &tag)?;
    // Whatever is wrong is better said before the build than after it.
    for output in &args.output {
        match output {
            Output::DockerArchive(path) => archive::check(path)?,
            Output::Oci(path) => layout::existing(path).map(drop)?,
        }
    }
    let certificates = certificates::read(args.ca_certificates.as_deref())?;
    let revision = Revision::of(project.directory());
    let created = created(revision.as_ref())?;
    let wiring = Wiring::read(&project)?;
    let early = yaml_findings(&wiring.application, &wiring.findings);
    if !accepted(&early, &wiring, terminal) {
        return Ok(Status::WrongInput);
    }
    if let Some(target) = &push {
        push::reach(target, terminal)?;
    }
    let compiler = Compiler::ask(project.directory())?;
    let work = Work {
        args,
        project: &project,
        package: &package,
        compiler,
        terminal,
    };
    let Some(built) = work.build()? else {
        return Ok(Status::WrongInput);
    };
    let described = describe::of_image(&built.program, project.directory())?;
    let all = wiring.findings.clone().and(check(
        &wiring.application,
        Some(&described),
        &BuildFeatures::of_application(&described),
    ));
    if !accepted(&all, &wiring, terminal) {
        return Ok(Status::WrongInput);
    }
    // Warnings, once all is known.
    show(&all, &wiring, terminal);
    let surroundings = wiring.surroundings();
    work.say(&surroundings, certificates.is_some());
    let mut time_zones = crate::image::tree::Tree::default();
    if let Some(why) = timezones::add(&mut time_zones, args.timezones, &built.crates)? {
        terminal.note(format_args!("time zones are in the image: {why}"));
    }
    let sbom = sbom::sbom(&built.crates, &built.target.triple)?;
    if let Some(path) = &args.sbom {
        std::fs::write(path, &sbom).map_err(|error| {
            Failure::usage(format_args!("cannot write {}: {error}", path.display()))
        })?;
    }
    let image = layers::image(Parts {
        name,
        tag,
        bin: package.bin.clone(),
        program: layers::program(&built.program)?,
        libraries: libraries::of(&built.program)?,
        certificates,
        time_zones,
        wiring: wiring.files,
        sbom,
        ports: surroundings.ports.clone(),
        labels: Labels::of(&package, &described, revision.as_ref(), created.as_deref()),
        created,
        arch: built.target.arch.clone(),
    })?;
    summarize(&image, terminal);
    let tell = |place: &Place<'_>| {
        terminal.note(format_args!("{}", terminal.strong("run it with")));
        for command in commands(&image, place, &surroundings, &wiring.variables) {
            terminal.note(format_args!("  {command}"));
        }
    };
    for output in &args.output {
        tell(&write(&image, output)?);
    }
    let mut reference = image.digest_reference();
    if let Some(target) = &push {
        let mut layouts = args.output.iter().filter_map(Output::layout);
        reference = push::push(&image, target, layouts.next_back(), &package, terminal)?;
        tell(&Place::Registry(target));
    }
    terminal.data(format!("{reference}\n"))?;
    Ok(Status::Fine)
}

fn show(findings: &Findings, wiring: &Wiring, terminal: &Terminal) {
    let reports = Format::Human(terminal.note_options());
    terminal.note_text(&render(findings, wiring.application.sources(), reports));
}

/// Whether an image may be made; shows what is against it.
fn accepted(findings: &Findings, wiring: &Wiring, terminal: &Terminal) -> bool {
    if !findings.has_errors() {
        return true;
    }
    show(findings, wiring, terminal);
    terminal.note(format_args!(
        "{}: no image was made",
        terminal.strong(&summary(findings))
    ));
    false
}

fn write<'a>(image: &Image, output: &'a Output) -> Result<Place<'a>, Failure> {
    match output {
        Output::DockerArchive(path) => {
            archive::write(image, path)?;
            Ok(Place::Archive(path))
        }
        Output::Oci(path) => {
            layout::write(image, path)?;
            Ok(Place::Layout(path))
        }
    }
}

/// A built program, and what it consists of.
struct Program {
    program: PathBuf,
    target: Target,
    crates: Crates,
}

struct Work<'a> {
    args: &'a BuildImage,
    project: &'a Project,
    package: &'a Package,
    compiler: Compiler,
    terminal: &'a Terminal,
}

impl Work<'_> {
    /// Builds for musl, or for glibc where that is wanted or nothing else goes. None when the code is wrong, which cargo has said.
    fn build(&self) -> Result<Option<Program>, Failure> {
        let terminal = self.terminal;
        if self.args.libc == LibcChoice::Glibc {
            return self.glibc();
        }
        let target = self.compiler.target(Libc::Musl)?;
        let strict = self.args.libc == LibcChoice::Musl;
        if let Some(lacking) = self.compiler.lacks(&target) {
            if strict {
                return Err(
                    Failure::usage(lacking.problem).help(format_args!("`{}`", lacking.mend))
                );
            }
            terminal.note(format_args!(
                "no static binary: {}; `{}` mends that. Building against glibc",
                lacking.problem, lacking.mend
            ));
            return self.glibc();
        }
        match self.build_for(target)? {
            Ok(program) => Ok(Some(program)),
            Err(End::Failed) if strict => Err(Failure::usage(
                "the application cannot be built for musl, for the reason above",
            )
            .help("`--libc glibc` builds it against glibc")),
            Err(End::Failed) => {
                terminal.warning(
                    "the application cannot be built for musl, for the reason above; building against glibc",
                );
                self.glibc()
            }
            Err(_) => Ok(None),
        }
    }

    fn glibc(&self) -> Result<Option<Program>, Failure> {
        let target = self.compiler.target(Libc::Glibc)?;
        if let Some(lacking) = self.compiler.lacks(&target) {
            return Err(Failure::usage(lacking.problem).help(format_args!("`{}`", lacking.mend)));
        }
        Ok(self.build_for(target)?.ok())
    }

    /// Builds, with our allocator unless the application turns out to have its own.
    fn build_for(&self, target: Target) -> Result<Result<Program, End>, Failure> {
        let allocator = allocator(self.package, target.libc, !self.args.no_allocator);
        let mut features: Vec<String> = allocator.into_iter().collect();
        loop {
            self.terminal.note(format_args!(
                "building `{}` for {}",
                self.package.bin, target.triple
            ));
            let crates = Crates::of(self.package, &target, &features)?;
            let build = Build {
                package: self.package,
                compiler: &self.compiler,
                target: &target,
                features: &features,
                elsewhere: &crates.elsewhere(self.package),
            };
            match build.run(self.terminal)? {
                End::Built(program) => {
                    return Ok(Ok(Program {
                        program,
                        target,
                        crates,
                    }));
                }
                End::OwnAllocator => {
                    self.terminal.note(
                        "the application has a `#[global_allocator]` of its own, which stays; to save this attempt, write in Cargo.toml\n    \
                         [package.metadata.statefun.image]\n    allocator = false",
                    );
                    features.clear();
                }
                end => return Ok(Err(end)),
            }
        }
    }

    fn say(&self, surroundings: &Surroundings, has_certificates: bool) {
        for warning in &surroundings.warnings {
            self.terminal.warning(warning);
        }
        for note in &surroundings.notes {
            self.terminal.note(format_args!("note: {note}"));
        }
        if !has_certificates {
            self.terminal.note(
                "note: this machine has no certificates of authorities, so the image has none: `apt-get install ca-certificates`, \
                 or `--ca-certificates FILE`",
            );
        }
        if self.project.modules.is_empty() {
            self.terminal
                .note("note: there is no module.yaml: the image is only what the code binds");
        }
    }
}

fn summarize(image: &Image, terminal: &Terminal) {
    terminal.note(format_args!(
        "{}: {} compressed, {} unpacked",
        terminal.strong(&image.tagged()),
        size(image.compressed_bytes()),
        size(image.unpacked_bytes())
    ));
    for layer in &image.layers {
        let bytes = size(layer.blob.bytes.len() as u64);
        terminal.note(format_args!(
            "  {:12} {bytes:>9}  {}",
            &layer.blob.digest.hex()[..12],
            layer.what
        ));
    }
    terminal.note(format_args!("  {}", image.manifest.digest));
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const KILO: f64 = 1000.0;
    let bytes = bytes as f64;
    if bytes < KILO * KILO {
        format!("{:.1} kB", bytes / KILO)
    } else {
        format!("{:.1} MB", bytes / (KILO * KILO))
    }
}
