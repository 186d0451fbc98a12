//! The figures of a run, as the tables that both the terminal and the page show.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::latency::Summary;
use crate::publisher::PublicationSummary;
use crate::report::{FloorReport, GeneratorReport, RunReport, ServerReport};
use crate::session::ConnectReport;
use crate::table::{Table, amount, bytes, count, figure, paragraph};

impl RunReport {
    /// The report as text. The limits come last, next to the prompt.
    #[must_use]
    pub fn render(&self) -> String {
        let tables = self.figures().into_iter().chain(self.findings());
        let texts: Vec<String> = tables.map(|table| table.render()).collect();
        format!("{}\n{}", texts.join("\n"), paragraph(&self.verdict, 0))
    }

    /// The figures of every run.
    pub(super) fn figures(&self) -> Vec<Table> {
        let mut tables = vec![self.setup_table()];
        if self.has_measured() {
            tables.extend([
                self.posts_table(),
                self.audit_table(),
                self.latency_table(),
                self.traffic_table(),
                self.cost_table(),
                self.counters_table(),
            ]);
        } else if self.setup.spec.duration_s == 0 {
            // Nothing is posted: what the viewers cost is all there is to know.
            tables.push(self.cost_table());
        }
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
        let (setup, spec) = (&self.setup, &self.setup.spec);
        let server = setup.server_version.as_ref();
        let server = server.map_or_else(String::new, |version| format!(" (version {version})"));
        let mut table = Table::new(format!(
            "danmaku-loadtest {} {} · {}{server}",
            spec.scenario, setup.version, spec.url
        ));
        table.row(["viewers", &self.audience()]);
        let source = match spec.corpus.as_ref().and_then(|path| path.file_name()) {
            Some(name) => name.to_string_lossy().into_owned(),
            None => format!("made up, {} a second", amount(spec.rate)),
        };
        table.row([
            "comments",
            &format!(
                "{source}, {} x, {} s, window {} ms, seed {}",
                spec.speed,
                spec.duration_s,
                count(setup.window_ms),
                spec.seed
            ),
        ]);
        table
    }

    /// `500 in 1 room, ws deflate`
    pub(super) fn audience(&self) -> String {
        let spec = &self.setup.spec;
        let encodings = spec.mix().map(|mix| mix.encodings()).unwrap_or_default();
        let encodings: Vec<&str> = encodings.iter().map(|encoding| encoding.as_str()).collect();
        format!(
            "{} in {} {}, {} {}",
            count(spec.viewers.into()),
            count(spec.rooms.into()),
            if spec.rooms == 1 { "room" } else { "rooms" },
            spec.protocol.name(),
            encodings.join(", ")
        )
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
        let mut row = |name, text: String| {
            table.row([name, &text]);
        };
        let delivered = count(audit.delivered);
        row(
            "delivered",
            format!("{delivered}, each checked against what was acknowledged"),
        );
        if audit.replayed > 0 {
            let replayed = count(audit.replayed);
            row(
                "replayed",
                format!("{replayed} of them, to viewers that reconnected; not in any latency"),
            );
        }
        let wrong = [
            (audit.lost, "lost"),
            (audit.duplicate, "duplicate"),
            (audit.reordered, "reordered"),
            (audit.corrupt, "corrupt"),
        ];
        row("wrong", listed(wrong));
        let (late, late_ms) = (count(audit.late), count(self.setup.spec.late_ms));
        row(
            "late",
            format!("{late}, more than {late_ms} ms beyond the window"),
        );
        let skipped = format!("skipped in {} gaps", count(audit.gaps));
        let accounted = [
            (audit.shed, "shed"),
            (audit.retracted, "retracted"),
            (audit.skipped, &skipped),
            (audit.after_close, "after a close"),
        ];
        row("accounted for", listed(accounted));
        for (name, number) in [
            ("posted by others", audit.foreign),
            ("undecodable frames", audit.undecodable),
            ("breaks in the chain of positions", audit.unchained),
            ("contradictions", audit.contradicted),
            ("contradicting acknowledgements", self.posts.contradicted),
        ] {
            if number > 0 {
                row(name, count(number));
            }
        }
        let ends = &self.ends;
        let others = ends.closes.values().sum::<u64>() - ends.evicted;
        let ended = [
            (ends.evicted, "evicted"),
            (others, "closed otherwise"),
            (ends.silent, "broken"),
        ];
        row("connections", listed(ended));
        if others > 0 {
            row("close codes", list(&ends.closes));
        }
        for (name, causes) in [
            ("could not connect", &self.connect_failures),
            ("protocol faults", &ends.faults),
        ] {
            if !causes.is_empty() {
                row(name, list(causes));
            }
        }
        table
    }

    fn latency_table(&self) -> Table {
        let mut table = Table::new("latency, ms");
        table.heads(["", "p50", "p90", "p99", "max"]);
        let mut row = |name: &str, of: Option<Summary>| {
            if let Some(of) = of.filter(|of| of.count > 0) {
                let cells = [of.p50_ms, of.p90_ms, of.p99_ms, of.max_ms].map(figure);
                table.row([name, &cells[0], &cells[1], &cells[2], &cells[3]]);
            }
        };
        for stage in &self.latency {
            let when = match self.latency.len() {
                1 => String::new(),
                _ => format!(", {}", stage.stage),
            };
            for (name, of) in [
                ("post to first viewer", stage.first_viewer),
                ("post to each viewer", stage.each_viewer),
                ("post to last viewer", stage.last_viewer),
                (
                    "post to each viewer, beyond the window",
                    stage.each_beyond_window,
                ),
                ("seal to each viewer", stage.seal_to_viewer),
            ] {
                row(&format!("{name}{when}"), Some(of));
            }
        }
        for (name, key) in [
            ("post to seal", "post_to_seal"),
            ("seal to first viewer", "seal_to_first_viewer"),
            ("first to last viewer", "first_to_last_viewer"),
        ] {
            row(name, self.distributions.get(key).map(|it| it.summary()));
        }
        table.note("A post counts from when it was due; seal is the time stamp of its batch.");
        table
    }

    fn traffic_table(&self) -> Table {
        let mut table =
            Table::new("what viewers got, heads of frames and lines of events included");
        table.heads(["", "frames", "bytes/frame", "bytes/comment"]);
        for (encoding, traffic) in &self.traffic {
            table.row([
                encoding,
                &count(traffic.frames),
                &figure(traffic.bytes_per_frame),
                &figure(traffic.bytes_per_comment),
            ]);
        }
        table
    }

    fn cost_table(&self) -> Table {
        let mut table = Table::new("cost");
        connect_rows(&self.connect, &mut table);
        table.row(["connect to joined", &quantiles(&self.connect_latency)]);
        if let Some(server) = &self.server {
            self.server_rows(server, &mut table);
        }
        if self.total.frames > 0 {
            generator_rows(&self.generator, &mut table);
        }
        if let Some(floor) = &self.floor {
            floor_rows(floor, &mut table);
        }
        table
    }

    fn server_rows(&self, server: &ServerReport, table: &mut Table) {
        let mut cpu = format!(
            "{} % of one CPU: {} s user, {} s kernel",
            figure(server.cpu_percent),
            figure(server.cpu.user_ms / 1000.0),
            figure(server.cpu.system_ms / 1000.0)
        );
        if self.total.frames > 0 {
            let joins = if self.has_joins() {
                ", joins included"
            } else {
                ""
            };
            let micros = figure(server.frame_micros);
            cpu = format!("{micros} µs per delivered frame{joins} ({cpu})");
        }
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
            let text = format!(
                "{} resident, {} anonymous, at the end",
                bytes(memory.resident_bytes),
                bytes(memory.anonymous_bytes)
            );
            table.row(["server memory", &text]);
        }
    }

    fn counters_table(&self) -> Table {
        let mut table = Table::new("server counters, change over the run");
        for (path, change) in self.counters.iter().flatten() {
            let sign = if *change < 0.0 { '-' } else { '+' };
            table.row([path, &format!("{sign}{}", amount(change.abs().round()))]);
        }
        table
    }
}

/// The outcome of the posts.
fn outcome_of(posts: &PublicationSummary) -> String {
    let mut outcome = listed([(posts.due, "due"), (posts.acknowledged, "acknowledged")]);
    for (word, causes) in [("refused", &posts.refused), ("unanswered", &posts.failed)] {
        if !causes.is_empty() {
            outcome.push_str(&format!(", {word}: {}", list(causes)));
        }
    }
    outcome
}

fn connect_rows(connect: &ConnectReport, table: &mut Table) {
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
    let sides = [
        ("server", connect.server_bytes_per_viewer),
        ("generator", connect.own_bytes_per_viewer),
    ];
    let sides: Vec<String> = sides
        .into_iter()
        // A server that had viewers before may release more memory than these take; the figure is unknown then.
        .filter_map(|(side, bytes)| Some((side, u64::try_from(bytes?).ok().filter(|it| *it > 0)?)))
        .map(|(side, bytes)| format!("{side} {} B", count(bytes)))
        .collect();
    if !sides.is_empty() {
        let text = format!("{} of anonymous memory", sides.join(", "));
        table.row(["an idle viewer", &text]);
    }
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
    let [before, after] = report.halves_micros.map(figure);
    let threads = match report.threads {
        1 => "one thread".to_owned(),
        threads => format!("{threads} threads"),
    };
    let text = format!(
        "{} µs per send from {threads} ({before} before, {after} after the run; {} sends, {} partial)",
        figure(floor.send_micros),
        count(floor.sends),
        floor.short
    );
    table.row(["floor", &text]);
    let received = figure(floor.receive_micros);
    table.row([
        "floor receiver",
        &format!("{received} µs per received frame"),
    ]);
    if let Some(ratio) = report.ratio {
        let fan_out = report.fan_out_ratio;
        let without = fan_out.map(|ratio| format!(", {ratio:.3} without the posts"));
        let text = format!("{ratio:.3}{}", without.unwrap_or_default());
        table.row(["server / floor", &text]);
    }
}

/// `p50 1.20 ms, p99 4.50 ms, max 9.10 ms`, or `none`.
fn quantiles(summary: &Summary) -> String {
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

/// `3 lost, 0 duplicate`
fn listed<const N: usize>(counts: [(u64, &str); N]) -> String {
    let texts = counts.map(|(number, what)| format!("{} {what}", count(number)));
    texts.join(", ")
}

/// `2 x timed out, 5 x rate_limited`
fn list<K: Display>(causes: &BTreeMap<K, u64>) -> String {
    let causes = causes.iter();
    let texts: Vec<String> = causes
        .map(|(cause, number)| format!("{} x {cause}", count(*number)))
        .collect();
    texts.join(", ")
}
