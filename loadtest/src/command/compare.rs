//! `compare`: two reports side by side.

use crate::cli::CompareArgs;
use crate::command::{Verdict, print};
use crate::error::HarnessError;
use crate::report::Comparison;

pub(super) fn compare(args: &CompareArgs) -> Result<Verdict, HarnessError> {
    let comparison = Comparison::of_files(&args.before, &args.after, args.tolerance)?;
    print(&comparison.render());
    Ok(if comparison.is_worse() {
        Verdict::Bad
    } else {
        Verdict::Good
    })
}
