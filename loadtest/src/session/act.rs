//! Disruptions during posting: all viewers are cut off, viewers come and go, the server restarts.

use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;

use crate::clock::Moment;
use crate::restart::{Patience, Restart, RestartError};
use crate::session::server_totals::{Reading, ServerTotals};
use crate::session::{LOOK_EVERY, Program, Session, seconds};
use crate::swarm::Order;
use crate::target::Target;

/// A disruption during posting.
#[derive(Clone, Debug)]
pub struct Act {
    /// When, in the measured interval.
    pub at: Duration,
    /// What.
    pub what: Deed,
    /// How long viewers may take to be back.
    pub patience: Duration,
}

/// The kinds of disruption.
#[derive(Clone, Debug)]
pub enum Deed {
    /// All viewers are disconnected and reconnect at once.
    Storm,
    /// Viewers begin to leave and join.
    Churn,
    /// The server is stopped and started again.
    Restart(Restart),
}

const CHURN: &str = "churn";
const RESTART: &str = "restart";
const CRASH: &str = "crash";

impl Deed {
    fn name(&self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Churn => CHURN,
            Self::Restart(restart) if restart.signal == Signal::KILL => CRASH,
            Self::Restart(_) => RESTART,
        }
    }
}

/// The outcome of an [`Act`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Event {
    /// `storm`, `churn`, `restart` or `crash`.
    pub what: String,
    /// When, in seconds of the measured interval.
    pub at_s: f64,
    /// Viewers that were up.
    pub viewers: u64,
    /// Of those, how many were back in time. In a `churn`: how many left and joined as a new viewer.
    pub back: u64,
    /// From the beginning until the last one was back; absent when it never was.
    pub last_back_s: Option<f64>,
    /// Viewers that joined a second, once there was a server. In a `churn`: over the rest of the measured interval.
    pub per_second: f64,
    /// How long the server was down.
    pub down_s: Option<f64>,
    /// The server that was started.
    pub server_pid: Option<u32>,
    /// Why the server is not back.
    pub problem: Option<String>,
}

impl Event {
    /// Whether the server was stopped.
    #[must_use]
    pub fn is_restart(&self) -> bool {
        self.what == RESTART || self.what == CRASH
    }

    /// Sets how many left and joined as new viewers up to this second of the measured interval.
    pub(super) fn set_churn(&mut self, joined_anew: u64, until_s: f64) {
        self.back = joined_anew;
        self.per_second = joined_anew as f64 / (until_s - self.at_s).max(0.001);
    }

    /// Whether viewers leave and join from then on.
    #[must_use]
    pub fn is_churn(&self) -> bool {
        self.what == CHURN
    }
}

impl Session {
    /// Runs the program's disruptions, each when it is due.
    pub(super) async fn act_out(
        &mut self,
        program: &Program,
        start: Moment,
        target: &mut Target,
        totals: &mut ServerTotals,
    ) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        for act in &program.acts {
            self.sleep_until(start.after(act.at)).await;
            if self.stop.is_cancelled() {
                break;
            }
            let event = if let Deed::Restart(restart) = &act.what {
                let mut act = act.clone();
                if let Some(last) = events.last() {
                    // Another process by now. Without one there is nothing to stop.
                    let Some(pid) = last.server_pid else {
                        break;
                    };
                    act.what = Deed::Restart(Restart {
                        pid,
                        ..restart.clone()
                    });
                }
                let counters = target.counters().await.ok().flatten();
                let last = Reading::new(self.server.look().await, counters);
                totals.close(&last);
                let event = self.perform(&act).await;
                if event.server_pid.is_none() {
                    totals.go_on(last);
                }
                event
            } else {
                self.perform(act).await
            };
            events.push(event);
        }
        events
    }

    /// Runs one disruption and watches until its effect is over.
    async fn perform(&self, act: &Act) -> Event {
        let clock = self.bench.clock;
        let before = self.viewers.snapshot();
        let began = clock.now();
        let up = before.up();
        let mut event = Event {
            what: act.what.name().to_owned(),
            at_s: act.at.as_secs_f64(),
            viewers: up,
            ..Event::default()
        };
        self.sampler.mark(act.what.name(), began);
        match &act.what {
            Deed::Churn => {
                self.viewers.order(Order::Churn);
                return event;
            }
            Deed::Storm => self.viewers.order(Order::Storm),
            Deed::Restart(restart) => {
                let patience = Patience {
                    at_most: act.patience,
                    stop: &self.stop,
                };
                // What was measured until now must not be discarded.
                if let Err(error) = perform_restart(restart, patience, &mut event).await {
                    event.problem = Some(error.to_string());
                    return event;
                }
            }
        }
        let give_up = clock.now().after(act.patience);
        // Threads publish their progress once per turn, so wait for the dip as well. Viewers that came back and lost the
        // connection again are not back: count connected viewers, not joins.
        let back = || {
            let now = self.viewers.snapshot();
            (now.rejoined - before.rejoined).min(now.up()).min(up)
        };
        event.back = back();
        while event.back < up {
            if clock.now() >= give_up || self.stop.is_cancelled() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY / 4).await;
            event.back = back();
        }
        let took_s = seconds(clock.now().micros_since(began));
        event.last_back_s = (event.back == up).then_some(took_s);
        event.per_second = event.back as f64 / (took_s - event.down_s.unwrap_or(0.0)).max(0.001);
        event
    }
}

/// Stops the server, starts it and waits until it listens. The event names the new process also when that does not help.
async fn perform_restart(
    restart: &Restart,
    patience: Patience<'_>,
    event: &mut Event,
) -> Result<(), RestartError> {
    let down_since = restart.stop_server(patience).await?;
    let mut started = restart.start_server()?;
    event.server_pid = started.pid();
    let listening = restart.listening(&mut started, patience).await;
    if started.pid().is_none() {
        event.server_pid = None;
    }
    listening?;
    event.down_s = Some(down_since.elapsed().as_secs_f64());
    Ok(())
}
