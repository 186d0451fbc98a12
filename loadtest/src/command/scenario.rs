//! Runs a scenario, or searches with it, and publishes the report.

use tokio_util::sync::CancellationToken;

use crate::cli::ReportArgs;
use crate::command::run::perform;
use crate::command::search::search;
use crate::command::{Verdict, print};
use crate::error::HarnessError;
use crate::report::{RunReport, write_csv, write_html, write_json};
use crate::spec::Spec;

/// Runs a specification and publishes its report.
pub(super) async fn run(
    spec: &Spec,
    report: &ReportArgs,
    stop: &CancellationToken,
) -> Result<Verdict, HarnessError> {
    let performed = if spec.search.is_some() {
        search(spec, stop).await
    } else {
        perform(spec, stop).await
    };
    publish(report, &performed?)
}

/// Prints and writes the report.
fn publish(args: &ReportArgs, report: &RunReport) -> Result<Verdict, HarnessError> {
    print(&report.render());
    // If one file cannot be written, still write the others.
    let json = args.json.as_ref().map(|path| write_json(path, report));
    let html = args.html.as_ref().map(|path| write_html(path, report));
    let csv = args.csv.as_ref().map(|path| write_csv(path, report));
    json.transpose()
        .and(html.transpose())
        .and(csv.transpose())?;
    Ok(if report.passed {
        Verdict::Good
    } else {
        Verdict::Bad
    })
}
