//! The tables at the end of a run.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::latency::Summary;
use crate::publisher::PublicationSummary;
use crate::report::{FloorReport, GeneratorReport, RunReport, StageReport};
use crate::session::ConnectReport;
use crate::table::{COLUMNS_MAX, Table, amount, bytes, count, figure, wrapped};

impl RunReport {
    /// The report as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self
            .tables()
            .iter()
            .map(Table::render)
            .collect::<Vec<_>>()
            .join("\n");
        let verdict = wrapped(&self.verdict, COLUMNS_MAX - 2).join("\n  ");
        text.push_str(&format!("\n{verdict}\n"));
        text
    }

    /// All tables, in reading order, the limits last, next to the prompt.
    fn tables(&self) -> Vec<Table> {
        let mut tables = self.figures();
        tables.extend([self.rooms_table(), self.events_table()]);
        if let Some(scenario) = &self.scenario {
            tables.extend([scenario.steps_table(), scenario.table()]);
        }
        tables.retain(|table| !table.is_empty());
        tables
    }

    /// The tables of every run, in reading order.
    pub(super) fn figures(&self) -> Vec<Table> {
        if !self.has_measured() {
            return vec![self.setup_table()];
        }
        let mut tables = vec![
            self.setup_table(),
            self.posts_table(),
            self.audit_table(),
            self.latency_table(),
            self.stages_table(),
            self.traffic_table(),
            self.cost_table(),
        ];
        tables.extend(self.counters.as_ref().map(counters_table));
        tables.retain(|table| !table.is_empty());
        tables
    }

    /// Whether viewers joined during posting, so that the server's figures include joins.
    pub(super) fn has_joins(&self) -> bool {
        self.connect.seconds <= 0.0 || self.returns.is_some()
    }

    /// Whether anything was measured; not if the run was ended while viewers connected.
    pub(super) fn has_measured(&self) -> bool {
        self.total.seconds > 0.0
    }

    fn setup_table(&self) -> Table {
        let setup = &self.setup;
        let server = setup
            .server_version
            .as_ref()
            .map_or_else(String::new, |version| format!(" (version {version})"));
        let mut table = Table::new(format!(
            "danmaku-loadtest {} · {}{server}",
            setup.version, setup.url
        ));
        let processes = if setup.processes > 1 {
            format!(", in {} processes", setup.processes)
        } else {
            String::new()
        };
        let viewers = format!(
            "{} in {} {}: {} {}{processes}",
            count(setup.viewers.into()),
            count(setup.rooms.into()),
            if setup.rooms == 1 { "room" } else { "rooms" },
            setup.protocol.name(),
            setup.encodings.join(", ")
        );
        let window = if self.has_measured() {
            format!(", window {} ms", count(setup.window_ms))
        } else {
            String::new()
        };
        let rate = setup
            .rate
            .map_or_else(String::new, |rate| format!(", {} a second", amount(rate)));
        let source = format!(
            "{}{rate}, {} x, {} s{window}, seed {}",
            setup.corpus, setup.speed, setup.duration_s, setup.seed
        );
        table.row(["viewers", &viewers]).row(["comments", &source]);
        table
    }

    fn posts_table(&self) -> Table {
        let posts = &self.posts;
        let mut table = Table::new("posts");
        table.row(["outcome", &outcome_of(posts)]);
        table.row(["sent late by", &quantiles(&posts.lateness)]);
        table.row(["answered after", &quantiles(&posts.answer)]);
        table
    }

    fn audit_table(&self) -> Table {
        let audit = &self.audit;
        let mut table = Table::new("audit, in viewer-comments");
        table.row([
            "delivered",
            &format!(
                "{}, each checked against what was acknowledged",
                count(audit.delivered)
            ),
        ]);
        if audit.replayed > 0 {
            let text = format!(
                "{} of them, to viewers that reconnected; not in any latency",
                count(audit.replayed)
            );
            table.row(["replayed", &text]);
        }
        let wrong = format!(
            "{} lost, {} duplicate, {} reordered, {} corrupt",
            count(audit.lost),
            count(audit.duplicate),
            count(audit.reordered),
            count(audit.corrupt)
        );
        table.row(["wrong", &wrong]);
        let late = format!(
            "{}, more than {} ms beyond the window",
            count(audit.late),
            count(self.setup.late_ms)
        );
        table.row(["late", &late]);
        let reported = format!(
            "{} shed, {} retracted, {} skipped in {} gaps, {} after a close",
            count(audit.shed),
            count(audit.retracted),
            count(audit.skipped),
            count(audit.gaps),
            count(audit.after_close)
        );
        table.row(["accounted for", &reported]);
        for (name, number) in [
            ("posted by others", audit.foreign),
            ("undecodable frames", audit.undecodable),
            ("breaks in the chain of positions", audit.unchained),
            ("contradictions", audit.contradicted),
            ("contradicting acknowledgements", self.posts.contradicted),
        ] {
            if number > 0 {
                table.row([name, &count(number)]);
            }
        }
        self.connection_rows(&mut table);
        table
    }

    /// How connections ended, and why viewers could not connect.
    fn connection_rows(&self, table: &mut Table) {
        let ends = &self.ends;
        let others = ends.closes.values().sum::<u64>() - ends.evicted;
        let closed = format!(
            "{} evicted, {} closed otherwise, {} broken",
            count(ends.evicted),
            count(others),
            count(ends.silent)
        );
        table.row(["connections", &closed]);
        if !self.connect_failures.is_empty() {
            table.row(["could not connect", &list(&self.connect_failures)]);
        }
        if others > 0 {
            table.row(["close codes", &list(&ends.closes)]);
        }
        if !ends.faults.is_empty() {
            table.row(["protocol faults", &list(&ends.faults)]);
        }
        if let Some(stalled) = &ends.stalled {
            let found = format!(
                "{} still connected, {} cut off, {} closed; {} frames, {} gaps over {} comments",
                count(stalled.open),
                count(stalled.silent),
                if stalled.closes.is_empty() {
                    "0".to_owned()
                } else {
                    list(&stalled.closes)
                },
                count(stalled.frames),
                count(stalled.gaps),
                count(stalled.skipped)
            );
            table.row(["stalled viewers", &found]);
        }
    }

    fn latency_table(&self) -> Table {
        let mut table = Table::new("latency from scheduled post, ms");
        table.row(["", "p50", "p90", "p99", "max"]);
        for stage in &self.latency {
            let mut row = |name: &str, summary: &Summary| {
                if summary.count == 0 {
                    return;
                }
                let name = if self.latency.len() > 1 {
                    format!("{name}, {}", stage.stage)
                } else {
                    name.to_owned()
                };
                let cells = [
                    summary.p50_ms,
                    summary.p90_ms,
                    summary.p99_ms,
                    summary.max_ms,
                ]
                .map(figure);
                table.row([&name, &cells[0], &cells[1], &cells[2], &cells[3]]);
            };
            let StageReport {
                first_viewer,
                each_viewer,
                last_viewer,
                ..
            } = stage;
            row("to the first viewer", first_viewer);
            row("to each viewer", each_viewer);
            row("to the last viewer", last_viewer);
            row(
                "to each viewer, beyond the window",
                &stage.each_beyond_window,
            );
            row(
                "to the last viewer, beyond the window",
                &stage.last_beyond_window,
            );
            row(
                "from the batch's timestamp to each viewer",
                &stage.seal_to_viewer,
            );
        }
        table
    }

    fn stages_table(&self) -> Table {
        let mut table = Table::new("where the time goes, ms");
        table.row(["", "p50", "p90", "p99", "max"]);
        for (title, name) in [
            ("scheduled post to seal", "post_to_seal"),
            ("seal to first viewer", "seal_to_first_viewer"),
            ("first viewer to last viewer", "first_to_last_viewer"),
        ] {
            if let Some(histogram) = self.histograms.get(name) {
                let of = &histogram.summary;
                let cells = [of.p50_ms, of.p90_ms, of.p99_ms, of.max_ms].map(figure);
                table.row([title, &cells[0], &cells[1], &cells[2], &cells[3]]);
            }
        }
        table
    }

    fn traffic_table(&self) -> Table {
        let mut table =
            Table::new("what viewers got, heads of frames and lines of events included");
        table.row(["", "frames", "bytes/frame", "bytes/comment"]);
        for (encoding, traffic) in &self.traffic {
            let frames = count(traffic.frames);
            let (per_frame, per_comment) = (
                figure(traffic.bytes_per_frame),
                figure(traffic.bytes_per_comment),
            );
            table.row([encoding, &frames, &per_frame, &per_comment]);
        }
        table
    }

    fn cost_table(&self) -> Table {
        let mut table = Table::new("cost");
        connect_rows(&self.connect, &mut table);
        table.row(["connect to joined", &quantiles(&self.connect_latency)]);
        if let Some(server) = &self.server {
            let share = format!(
                "{} % of one CPU: {} s user, {} s kernel",
                figure(server.cpu_percent),
                figure(server.cpu.user_ms / 1000.0),
                figure(server.cpu.system_ms / 1000.0)
            );
            let cpu = if self.total.frames > 0 {
                let per_frame = figure(server.frame_micros);
                let joins = if self.has_joins() {
                    ", joins included"
                } else {
                    ""
                };
                format!("{per_frame} µs per delivered frame{joins} ({share})")
            } else {
                share
            };
            table.row(["server CPU", &cpu]);
            if let (Some(cost), Some(fan_out)) = (server.post_cost, server.fan_out_micros) {
                let text = format!(
                    "{} µs per post without viewers ({} posts); the rest is {} µs per delivered frame",
                    figure(cost.post_micros),
                    count(cost.posts),
                    figure(fan_out)
                );
                table.row(["  for posts", &text]);
            }
            if let Some(memory) = server.memory {
                let memory = format!(
                    "{} resident, {} anonymous, at the end",
                    bytes(memory.resident_bytes),
                    bytes(memory.anonymous_bytes)
                );
                table.row(["server memory", &memory]);
            }
        }
        if self.total.frames > 0 {
            generator_rows(&self.generator, &mut table);
        }
        if let Some(floor) = &self.floor {
            floor_rows(floor, &mut table);
        }
        table
    }
}

/// The outcome of the posts, shared with `quiet`.
pub(crate) fn outcome_of(posts: &PublicationSummary) -> String {
    let mut outcome = format!(
        "{} due, {} acknowledged",
        count(posts.due),
        count(posts.acknowledged)
    );
    for (word, causes) in [("refused", &posts.refused), ("unanswered", &posts.failed)] {
        if !causes.is_empty() {
            outcome.push_str(&format!(", {word}: {}", list(causes)));
        }
    }
    outcome
}

/// Rows about connecting, shared with `idle`.
pub(crate) fn connect_rows(connect: &ConnectReport, table: &mut Table) {
    let viewers = count(connect.viewers);
    let mut took = if connect.seconds > 0.0 {
        format!("{viewers} in {} s", figure(connect.seconds))
    } else {
        format!("{viewers}, during posting")
    };
    if let Some(micros) = connect.server_micros {
        took.push_str(&format!(", {} µs of server CPU each", figure(micros)));
    }
    table.row(["connects", &took]);
    let sides: Vec<String> = [
        ("server", connect.server_bytes_per_viewer),
        ("generator", connect.own_bytes_per_viewer),
    ]
    .into_iter()
    // A server that had viewers before may release more memory than these take; the figure is unknown then.
    .filter_map(|(side, bytes)| Some((side, bytes.filter(|bytes| *bytes > 0)?)))
    .map(|(side, bytes)| format!("{side} {} B", amount(to_f64(bytes))))
    .collect();
    if !sides.is_empty() {
        let text = format!("{} of anonymous memory", sides.join(", "));
        table.row(["an idle viewer", &text]);
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a viewer")]
fn to_f64(bytes: i64) -> f64 {
    bytes as f64
}

fn generator_rows(generator: &GeneratorReport, table: &mut Table) {
    let per_frame = |all: f64, user: f64| {
        let (all, user) = (figure(all), figure(user));
        format!("{all} µs per received frame, {user} µs in user space")
    };
    let own = per_frame(generator.frame_micros, generator.user_frame_micros);
    table.row(["generator CPU", &own]);
    if generator.viewers_cpu.is_some() {
        let viewers = per_frame(
            generator.viewers_frame_micros,
            generator.viewers_user_frame_micros,
        );
        table.row(["  for viewers", &viewers]);
    }
}

fn floor_rows(report: &FloorReport, table: &mut Table) {
    let floor = &report.floor;
    let [before, after] = report.halves_micros;
    let text = format!(
        "{} µs per send from {} ({} before, {} after the run; {} sends, {} partial)",
        figure(floor.send_micros),
        if report.threads == 1 {
            "one thread".to_owned()
        } else {
            format!("{} threads", report.threads)
        },
        figure(before),
        figure(after),
        count(floor.sends),
        floor.short
    );
    table.row(["floor", &text]);
    table.row([
        "floor receiver",
        &format!("{} µs per received frame", figure(floor.receive_micros)),
    ]);
    if let Some(ratio) = report.ratio {
        let without = report.fan_out_ratio.map_or_else(String::new, |ratio| {
            format!(", {ratio:.3} without the posts")
        });
        table.row(["server / floor", &format!("{ratio:.3}{without}")]);
    }
}

fn counters_table(counters: &BTreeMap<String, f64>) -> Table {
    let mut table = Table::new("server counters, change over the run");
    for (path, difference) in counters {
        table.row([path, &change(*difference)]);
    }
    table
}

/// `+1,234` or `-5`: counters are whole numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded and not negative"
)]
fn change(difference: f64) -> String {
    let sign = if difference < 0.0 { '-' } else { '+' };
    format!("{sign}{}", count(difference.abs().round() as u64))
}

/// `p50 1.20 ms, p99 4.50 ms, max 9.10 ms`, or `none`.
pub(crate) fn quantiles(summary: &Summary) -> String {
    if summary.count == 0 {
        return "none".to_owned();
    }
    format!(
        "p50 {} ms, p99 {} ms, max {} ms",
        figure(summary.p50_ms),
        figure(summary.p99_ms),
        figure(summary.max_ms)
    )
}

fn list<K: Display>(causes: &BTreeMap<K, u64>) -> String {
    causes
        .iter()
        .map(|(cause, number)| format!("{} x {cause}", count(*number)))
        .collect::<Vec<_>>()
        .join(", ")
}
