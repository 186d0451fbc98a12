//! A viewer process: runs a share of the swarm with its own ledger and judge, and reports to its parent.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::audit::Judge;
use crate::clock::Clock;
use crate::descriptors::{self, Need};
use crate::error::HarnessError;
use crate::swarm::{Bench, Lookout, Snapshot, Swarm};
use crate::viewer_processes::protocol::{BATCH_MAX, FromChild, Plan, Report, ToChild, read, write};

/// How often a child checks for news to report, while there are some.
const REPORT_EVERY: Duration = Duration::from_millis(10);
/// The same after a while without news: a look costs as much as a dozen frames.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(40);

/// Runs a child. It reports only to its parent, and ends with its input, when the parent is done or gone.
#[must_use]
pub fn attend() -> ExitCode {
    let mut output = io::stdout();
    match watch(&mut io::stdin().lock(), &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If the parent is gone, there is nobody to report to.
            let _ = write(&mut output, &FromChild::Failed(error.to_string()));
            ExitCode::from(2)
        }
    }
}

fn watch(input: &mut impl BufRead, output: &mut (impl Write + Send)) -> Result<(), HarnessError> {
    let _caught = leave_signals_to_parent().map_err(HarnessError::system("signal handler"))?;
    let failed = || HarnessError::system("pipe to the parent");
    write(output, &FromChild::Ready).map_err(failed())?;
    let mut line = String::new();
    let Some(ToChild::Plan(plan)) = read(input, &mut line).map_err(failed())? else {
        return Ok(());
    };
    let bench = prepare(&plan)?;
    let swarm = Swarm::start(&plan.config, &plan.seating, plan.share, &bench)?;
    let mut reporter = Reporter {
        lookout: swarm.lookout(),
        judge: &bench.judge,
        output: &mut *output,
        reported: None,
    };
    let done = AtomicBool::new(false);
    let (listened, reported) = std::thread::scope(|scope| {
        let reporting = scope.spawn(|| reporter.report_until(&done));
        let listened = listen(input, &mut line, &swarm, &bench);
        done.store(true, Ordering::Relaxed);
        reporting.thread().unpark();
        let ended = || Err(io::Error::other("the reporter panicked"));
        (listened, reporting.join().unwrap_or_else(|_| ended()))
    });
    let result = swarm.finish()?;
    listened.and(reported).map_err(failed())?;
    // The audits' final results are still to be reported.
    reporter.report().map_err(failed())?;
    for arrivals in bench.ledger.arrivals().chunks(BATCH_MAX) {
        write(output, &FromChild::Arrivals(arrivals.to_vec())).map_err(failed())?;
    }
    write(output, &FromChild::Result(Box::new(result))).map_err(failed())
}

/// Ignores Ctrl-C, a terminal's hang-up and SIGTERM, which reach every process of a group: only the parent reacts, because its
/// report needs the children's results. They are ignored as long as the returned value is kept.
fn leave_signals_to_parent() -> io::Result<(Runtime, Vec<Signal>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let signals = {
        let _context = runtime.enter();
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::terminate(),
        ];
        kinds.into_iter().map(signal).collect::<io::Result<_>>()?
    };
    Ok((runtime, signals))
}

fn prepare(plan: &Plan) -> Result<Bench, HarnessError> {
    let viewers = plan.seating.per_process(plan.config.threads, plan.share.of)[plan.share.number];
    descriptors::reserve(&Need::here(viewers.into()), |_| viewers.into())?;
    let clock = Clock::join(plan.origin);
    Ok(Bench {
        clock,
        ledger: Arc::new(plan.config.habits.ledger(plan.seating.rooms)),
        judge: Arc::new(Judge::new(clock, plan.late)),
    })
}

/// Follows the parent's messages until they end.
fn listen(
    input: &mut impl BufRead,
    line: &mut String,
    swarm: &Swarm,
    bench: &Bench,
) -> io::Result<()> {
    while let Some(message) = read(input, line)? {
        match message {
            ToChild::Acknowledged(entries) => {
                for entry in &entries {
                    bench.ledger.enter(entry);
                }
            }
            ToChild::StallFrom(moment) => bench.judge.set_stall(moment),
            ToChild::Order(order) => swarm.order(order),
            ToChild::Plan(_) => return Err(io::Error::other("a second plan")),
        }
    }
    Ok(())
}

/// Whether there was any news.
enum Reported {
    Something,
    Nothing,
}

/// Reports changes to the parent.
struct Reporter<'a, W> {
    lookout: Lookout,
    judge: &'a Judge,
    output: &'a mut W,
    reported: Option<(Snapshot, u64)>,
}

impl<W: Write> Reporter<'_, W> {
    fn report_until(&mut self, done: &AtomicBool) -> io::Result<()> {
        let mut wait = REPORT_EVERY;
        while !done.load(Ordering::Relaxed) {
            wait = match self.report()? {
                Reported::Something => REPORT_EVERY,
                Reported::Nothing => (wait * 2).min(LOOK_EVERY_MAX),
            };
            std::thread::park_timeout(wait);
        }
        Ok(())
    }

    fn report(&mut self) -> io::Result<Reported> {
        let snapshot = self.lookout.snapshot();
        let window_ms = self.judge.window_micros() / 1000;
        let latencies = self.judge.recorder().take_latencies();
        if latencies.is_empty() && self.reported == Some((snapshot, window_ms)) {
            return Ok(Reported::Nothing);
        }
        self.reported = Some((snapshot, window_ms));
        let report = Report {
            snapshot,
            window_ms,
            latencies,
        };
        write(self.output, &FromChild::Report(report))?;
        Ok(Reported::Something)
    }
}
