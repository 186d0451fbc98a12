//! The verdict on a run, in a sentence.

use crate::limits::LATENESS_P99_MS_MAX;
use crate::report::RunReport;
use crate::table::{amount, count, figure};

impl RunReport {
    /// Why a run has not passed; a scenario has limits instead.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.audit.is_clean() || !self.ends.faults.is_empty() || self.posts.contradicted > 0 {
            faults.push("the audit found faults".to_owned());
        }
        if self.ends.silent > 0 {
            faults.push(format!("{} connections broke", count(self.ends.silent)));
        }
        if self.server_gone {
            faults.push("the server exited before the run ended, or hangs".to_owned());
        }
        if self.audit.delivered == 0 {
            faults.push("nothing was delivered, so this proves nothing".to_owned());
        }
        let untaken = self.posts.untaken();
        if untaken > 0 {
            faults.push(format!(
                "{} of {} posts were not accepted: {}",
                count(untaken),
                count(self.posts.due),
                self.posts.why_untaken()
            ));
        }
        faults
    }

    /// The caveats of the verdict.
    fn reservations(&self) -> Vec<String> {
        let mut reservations = Vec::new();
        let audit = &self.audit;
        let of_all = |what: u64, name: &str| {
            format!(
                "{} of {} viewer-comments {name}",
                count(what),
                count(audit.delivered.saturating_add(what))
            )
        };
        if self.scenario.is_none() && audit.late > 0 {
            let (late, delivered) = (count(audit.late), count(audit.delivered));
            reservations.push(format!("{late} of {delivered} deliveries were late"));
        }
        let left_out = audit.left_out();
        if left_out > 0 {
            reservations.push(of_all(left_out, "were reported as shed or skipped"));
        }
        if audit.after_close > 0 {
            reservations.push(of_all(
                audit.after_close,
                "came after the server closed their viewer",
            ));
        }
        for problem in self
            .events
            .iter()
            .filter_map(|event| event.problem.as_ref())
        {
            reservations.push(problem.clone());
        }
        if self.partial && self.has_measured() {
            let planned = self.setup.spec.duration_s as f64;
            reservations.push(format!(
                "ended after {} of {} s",
                amount(self.total.seconds.min(planned).round()),
                amount(planned)
            ));
        }
        let untaken = self.posts.untaken();
        if self.scenario.is_some() && untaken > 0 {
            reservations.push(format!(
                "{} of {} posts were not accepted ({}), so the load was lower than asked for",
                count(untaken),
                count(self.posts.due),
                self.posts.why_untaken()
            ));
        }
        reservations
    }

    /// The verdict in a sentence.
    pub(crate) fn judge(&self) -> String {
        let partial = if self.partial {
            " (partial: ended early)"
        } else {
            ""
        };
        let faults = self.faults();
        let mut text = if let Some(scenario) = &self.scenario {
            scenario.judge(&self.setup.spec, partial)
        } else if faults.is_empty() {
            format!("PASS{partial}: nothing lost, duplicate, reordered or corrupt")
        } else {
            format!("FAIL{partial}: {}", faults.join("; "))
        };
        for reservation in self.reservations() {
            text.push_str(&format!("; {reservation}"));
        }
        let late = &self.posts.lateness;
        if late.p99_ms > LATENESS_P99_MS_MAX {
            let answer = &self.posts.answer;
            // With every connection waiting for an answer nothing can be sent: that is the server's fault.
            let whose = if answer.p99_ms > late.p99_ms / 2.0 || self.posts.acknowledged == 0 {
                "because answers were slow, so the server was the bottleneck"
            } else {
                "and the generator, not the server, may have been the bottleneck, so latencies are upper bounds"
            };
            text.push_str(&format!(
                "; posts were sent late (p99 {} ms, answers took p99 {} ms) {whose}",
                figure(late.p99_ms),
                figure(answer.p99_ms)
            ));
        }
        text
    }
}
