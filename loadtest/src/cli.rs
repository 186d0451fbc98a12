//! The command line: every field of a [`Spec`] is a flag of every scenario.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Subcommand};

use crate::spec::{SCENARIOS, Spec};
use crate::spec_error::SpecError;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// A scenario, built in or from a file.
    Scenario(Box<Spec>, ReportArgs),
    /// Anything else.
    Tool(Tool),
}

/// The commands that are no scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// Send random bytes, truncated handshakes and broken frames, and hold half-open connections
    Abuse(AbuseArgs),
    /// Compare two reports: what got worse?
    Compare(CompareArgs),
    /// Print the JSON schema of a report
    Schema,
    /// The bare `send` loop of `--with-floor`, started by it
    #[command(hide = true)]
    FloorSender {
        /// The plan, as JSON
        plan: String,
    },
}

/// Where the report goes besides the terminal.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ReportArgs {
    /// Write the report as JSON; loadtest/REPORT.md describes it
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as an HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the run second by second as CSV
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
}

impl ReportArgs {
    /// The files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.json.iter().chain(&self.html).chain(&self.csv)
    }
}

/// Flags of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// The baseline report
    #[arg(value_name = "A.json")]
    pub(crate) before: PathBuf,
    /// The report to compare with it
    #[arg(value_name = "B.json")]
    pub(crate) after: PathBuf,
    /// How much worse a figure may get before it is flagged; faults are always flagged. On a shared machine runs vary by
    /// 15 %; for longer runs on a quiet machine use 5
    #[arg(long, default_value_t = 20.0, value_name = "PERCENT", value_parser = positive)]
    pub(crate) tolerance: f64,
}

/// Flags of `abuse`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AbuseArgs {
    /// URL of the server
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub(crate) url: String,
    /// Connections at once
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub(crate) connections: u16,
    /// Duration in seconds
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) duration_s: u64,
    /// The room to connect to
    #[arg(long, default_value = "load-0", value_name = "ROOM")]
    pub(crate) room: String,
    /// Random seed
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
}

/// Why a command line is no invocation.
#[derive(Debug)]
pub(crate) enum Unparsed {
    /// Help or version was asked for, or a flag is wrong.
    Flags(Box<clap::Error>),
    /// A scenario that cannot be.
    Spec(SpecError),
}

impl From<clap::Error> for Unparsed {
    fn from(error: clap::Error) -> Self {
        Self::Flags(Box::new(error))
    }
}

impl From<SpecError> for Unparsed {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

/// The name of the command for a scenario of the operator's own.
const OWN: &str = "scenario";
const FILE: &str = "file";

/// Reads a command line.
pub(crate) fn parse(
    words: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
) -> Result<Invocation, Unparsed> {
    let matches = command().try_get_matches_from(words)?;
    let (name, flags) = matches.subcommand().unwrap_or((OWN, &matches));
    let mut spec = if let Some(file) = file_of(name, flags) {
        Spec::read(file)?
    } else if SCENARIOS.iter().any(|(known, _)| *known == name) {
        Spec::shipped(name)?
    } else {
        return Ok(Invocation::Tool(Tool::from_arg_matches(&matches)?));
    };
    spec.update_from_arg_matches(flags)?;
    spec.check()?;
    let report = ReportArgs::from_arg_matches(flags)?;
    Ok(Invocation::Scenario(Box::new(spec), report))
}

fn file_of<'a>(name: &str, flags: &'a ArgMatches) -> Option<&'a PathBuf> {
    (name == OWN).then(|| flags.get_one(FILE)).flatten()
}

fn command() -> Command {
    let own = Arg::new(FILE)
        .value_name("FILE.toml")
        .value_parser(clap::value_parser!(PathBuf))
        .required(true);
    let root = Command::new("danmaku-loadtest")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true);
    let root = SCENARIOS.iter().fold(root, |root, (name, file)| {
        let about = file.lines().next().unwrap_or_default();
        let about = about.trim_start_matches("# ").to_owned();
        let sets = format!("What {name} sets:\n\n{file}");
        root.subcommand(fields(name, name).about(about).after_long_help(sets))
    });
    let about = "Run a scenario from a file; the built-in ones are in loadtest/scenarios";
    let own = fields(OWN, "run").about(about).arg(own);
    // What is flattened in brings its own description.
    Tool::augment_subcommands(root.subcommand(own))
        .about("Puts viewers and comments on a danmaku server and checks everything that arrives")
}

/// A command with a flag for every field, and its default in a scenario.
fn fields(command: &'static str, scenario: &str) -> Command {
    let spec = Spec::shipped(scenario).expect("invariant: a test reads every file");
    let defaults = serde_json::to_value(spec).unwrap_or_default();
    let command = Command::new(command).args_override_self(true);
    let command = Spec::augment_args_for_update(command).mut_args(|arg| {
        let field = arg.get_id().as_str();
        let default = defaults.get(field).or_else(|| defaults["slo"].get(field));
        let default = default.filter(|default| !default.is_null());
        match (default, arg.get_help()) {
            (Some(default), Some(help)) => {
                let default = default
                    .as_str()
                    .map_or_else(|| default.to_string(), str::to_owned);
                let help = format!("{help} [default: {default}]");
                arg.help(help)
            }
            _ => arg,
        }
    });
    ReportArgs::augment_args(command)
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("not a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> impl Iterator<Item = &str> + Clone {
        ["danmaku-loadtest"].into_iter().chain(line.split(' '))
    }

    #[test]
    fn the_flags_are_consistent() {
        command().debug_assert();
        let help = command().render_long_help().to_string();
        for about in [
            "checks everything that arrives",
            "Everyone is disconnected",
            "from a file",
        ] {
            assert!(help.contains(about), "{about}: {help}");
        }
    }

    #[test]
    fn flags_change_fields_and_keep_the_rest() {
        let line =
            "storm --viewers 7 --with-floor --slo.late-percent-max 9.5 --encodings gzip --json x";
        let Ok(Invocation::Scenario(spec, report)) = parse(words(line)) else {
            panic!("{line}");
        };
        let shipped = Spec::shipped("storm").unwrap();
        assert_eq!((spec.viewers, spec.rate), (7, shipped.rate));
        assert!(spec.with_floor && !spec.replicate && report.json.is_some());
        assert_eq!(spec.slo.late_percent_max, Some(9.5));
        assert_eq!(spec.slo.last_back_s_max, shipped.slo.last_back_s_max);
    }

    #[test]
    fn odd_values_are_refused() {
        for line in [
            "run --speed 0",
            "run --speed NaN",
            "run --viewers 0",
            "run --viewers many",
            "run --encodings brotli",
            "run --nonsense 1",
            "storm --threads 65",
            "dance",
        ] {
            assert!(parse(words(line)).is_err(), "{line}");
        }
    }
}
