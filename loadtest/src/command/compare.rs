//! `compare`: two reports side by side.

use crate::cli::CompareArgs;
use crate::command::{Verdict, print};
use crate::error::HarnessError;
use crate::report::difference::Difference;
use crate::report::read_json;

pub(super) fn compare(args: &CompareArgs) -> Result<Verdict, HarnessError> {
    let (before, after) = (read_json(&args.before)?, read_json(&args.after)?);
    let difference = Difference::of(&before, &after, args.tolerance);
    print(&difference.render(args.tolerance));
    Ok(if difference.is_worse() {
        Verdict::Bad
    } else {
        Verdict::Good
    })
}
