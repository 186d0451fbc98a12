//! Runs a scenario by name or file; a search runs one many times.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::cli::ScenarioArgs;
use crate::command::Verdict;
use crate::command::run::publish;
use crate::command::scenario::perform;
use crate::command::search::search;
use crate::error::HarnessError;
use crate::scenario::{Kind, Spec};

/// Runs a built-in scenario.
pub(super) async fn shipped(
    kind: Kind,
    args: &ScenarioArgs,
    stop: Arc<AtomicBool>,
) -> Result<Verdict, HarnessError> {
    conduct(&Spec::shipped(kind, &args.set)?, args, &stop).await
}

/// Runs a scenario from a file.
pub(super) async fn own(
    file: &Path,
    args: &ScenarioArgs,
    stop: Arc<AtomicBool>,
) -> Result<Verdict, HarnessError> {
    conduct(&Spec::read(file, &args.set)?, args, &stop).await
}

async fn conduct(
    spec: &Spec,
    args: &ScenarioArgs,
    stop: &Arc<AtomicBool>,
) -> Result<Verdict, HarnessError> {
    if spec.scenario.restarts_server() && args.server.server_pid.is_none() {
        let text = format!("{} needs --server-pid", spec.scenario.name());
        return Err(HarnessError::Flags(text));
    }
    let report = if spec.scenario == Kind::Search {
        search(spec, &args.server, stop).await?
    } else {
        perform(spec, &args.server, stop).await?
    };
    publish(&args.report, &report)
}
