//! Owns `GET /metrics`: the counters of `GET /v1/stats` and the process's own
//! figures in the text exposition format of Prometheus, version 0.0.4.
//!
//! Nothing is counted here: each scrape formats one [`Snapshot`]. Counters end
//! in `_total`, units are seconds and bytes, and several names in `/v1/stats`
//! for one kind of event become one family with a label (<https://prometheus.io/docs/practices/naming/>).

use danmaku_fanout::StatsSnapshot;
use danmaku_log::{COMMIT_MS_BOUNDS, StoreStats};
use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::process::{CpuTime, Process};
use crate::snapshot::Snapshot;

pub(crate) use prometheus::TEXT_FORMAT as CONTENT_TYPE;

/// The response to a scrape.
pub(crate) fn exposition(stats: &Snapshot<'_>, process: &Process) -> String {
    let mut families = Families::default();
    families.server(stats);
    families.connections(stats);
    families.inbound(stats);
    families.requests(stats);
    families.rooms(stats);
    if let Some(store) = &stats.store {
        families.store(store);
    }
    families.frames(&stats.fanout);
    families.viewers(&stats.fanout);
    families.process(process);
    TextEncoder::new()
        .encode_to_string(&families.0)
        .expect("invariant: every family has a name and a sample")
}

/// Families of samples, in the order in which they are written.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn server(&mut self, stats: &Snapshot<'_>) {
        self.add(
            MetricType::GAUGE,
            "danmaku_build_info",
            "The server's version, as a label of a constant 1.",
            [sample(1.0).with("version", env!("CARGO_PKG_VERSION"))],
        );
        self.add(
            MetricType::GAUGE,
            "danmaku_uptime_seconds",
            "Time since the server started.",
            [sample(float(stats.uptime_ms) / 1e3)],
        );
    }

    fn connections(&mut self, stats: &Snapshot<'_>) {
        self.gauge(
            "danmaku_connections",
            "Open connections, viewers included.",
            stats.connections.into(),
        );
        self.counter(
            "danmaku_connections_accepted_total",
            "Connections accepted.",
            stats.connection.accepted.value(),
        );
        self.add(
            MetricType::COUNTER,
            "danmaku_connections_refused_total",
            "Connections refused because the server (total) or their address is at its limit.",
            [
                count(stats.connection.refused_total.value()).with("reason", "total"),
                count(stats.connection.refused_address.value()).with("reason", "address"),
            ],
        );
        self.counter(
            "danmaku_connections_broken_total",
            "Connections that missed a deadline or broke HTTP before becoming a viewer's.",
            stats.connection.broken.value(),
        );
        self.counter(
            "danmaku_connections_upgraded_total",
            "Connections that became a WebSocket viewer's.",
            stats.connection.upgraded.value(),
        );
        self.counter(
            "danmaku_connections_sse_total",
            "Connections that became a Server-Sent Events viewer's.",
            stats.connection.sse.value(),
        );
        self.counter(
            "danmaku_accept_errors_total",
            "Failed accepts.",
            stats.connection.accept_errors.value(),
        );
        self.counter(
            "danmaku_joins_timed_out_total",
            "Viewers that waited too long for their room.",
            stats.connection.joins_timed_out.value(),
        );
    }

    fn inbound(&mut self, stats: &Snapshot<'_>) {
        self.counter(
            "danmaku_comments_accepted_total",
            "Comments accepted: they are in the log.",
            stats.inbound.comments_accepted(),
        );
        self.counter(
            "danmaku_comments_held_total",
            "Comments held for a moderator.",
            stats.inbound.comments_held(),
        );
        self.add(
            MetricType::COUNTER,
            "danmaku_messages_refused_total",
            "Messages, posts and joins refused, by reason.",
            stats
                .inbound
                .refused_by_reason()
                .map(|(reason, refused)| count(refused).with("reason", reason)),
        );
        self.counter(
            "danmaku_floods_total",
            "Viewers closed for sending far too many messages.",
            stats.inbound.floods.value(),
        );
        self.counter(
            "danmaku_protocol_errors_total",
            "Viewers that broke the rules of the WebSocket protocol.",
            stats.inbound.protocol_errors.value(),
        );
    }

    fn requests(&mut self, stats: &Snapshot<'_>) {
        self.add(
            MetricType::COUNTER,
            "danmaku_requests_refused_total",
            "Requests other than posts refused because of their cost, by reason.",
            stats
                .request
                .refused_by_reason()
                .map(|(reason, refused)| count(refused).with("reason", reason)),
        );
        self.gauge(
            "danmaku_http_held_bytes",
            "Bytes held for unfinished request bodies and unread pages.",
            stats.http_bytes_held,
        );
        self.add(
            MetricType::COUNTER,
            "danmaku_segment_requests_total",
            "Requests of pull viewers and caches for segments, by outcome; head asks for the newest one's number.",
            stats
                .pull
                .by_outcome()
                .map(|(outcome, requests)| count(requests).with("outcome", outcome)),
        );
    }

    fn rooms(&mut self, stats: &Snapshot<'_>) {
        self.gauge("danmaku_rooms", "Rooms.", stats.rooms);
        self.gauge(
            "danmaku_room_bytes",
            "Bytes of frames and comments that rooms hold for returning viewers.",
            stats.room_bytes,
        );
        self.counter(
            "danmaku_room_bytes_freed_total",
            "Bytes of frames and comments forgotten because the rooms were over their memory budget.",
            stats.room.bytes_freed.value(),
        );
        self.counter(
            "danmaku_frames_sealed_total",
            "Frames sealed: once per watched room and window with comments or likes.",
            stats.room.frames.value(),
        );
        self.counter(
            "danmaku_comments_sealed_total",
            "Comments in sealed frames, or in windows without viewers.",
            stats.room.comments.value(),
        );
        self.add(
            MetricType::COUNTER,
            "danmaku_comments_shed_total",
            "Comments left out of a frame because their window was full.",
            stats
                .room
                .shed
                .iter()
                .map(|(priority, shed)| count(shed.value()).with("priority", priority.as_str())),
        );
        self.counter(
            "danmaku_events_sealed_total",
            "Events in sealed frames, or in windows without viewers: retractions.",
            stats.room.events.value(),
        );
        self.counter(
            "danmaku_gaps_sealed_total",
            "Gaps sent to everyone in a room because its log had lost entries.",
            stats.room.gaps.value(),
        );
        self.counter(
            "danmaku_entries_repeated_total",
            "Log entries ignored because their position had come before.",
            stats.room.repeated.value(),
        );
        self.counter(
            "danmaku_likes_total",
            "Likes, before a window's sum is capped.",
            stats.room.likes.value(),
        );
        self.counter(
            "danmaku_shard_inbox_full_total",
            "Times a room waited for a full shard inbox.",
            stats.room.held_up.value(),
        );
    }

    fn store(&mut self, store: &StoreStats) {
        self.gauge(
            "danmaku_store_up",
            "Whether the data file can be written: 1, or 0 while posts are refused.",
            store.up.into(),
        );
        self.commit_times(store);
        self.counter(
            "danmaku_store_rows_total",
            "Entries and records written to the data file.",
            store.rows,
        );
        self.counter(
            "danmaku_store_errors_total",
            "Writes to the data file that failed.",
            store.errors,
        );
        self.gauge(
            "danmaku_store_queue",
            "Posts and changes that wait for their commit.",
            store.queued,
        );
        self.gauge(
            "danmaku_store_file_bytes",
            "Bytes of the data file, free pages included.",
            store.file_bytes,
        );
        self.gauge(
            "danmaku_store_wal_bytes",
            "Bytes of the data file's write-ahead log.",
            store.wal_bytes,
        );
    }

    fn commit_times(&mut self, store: &StoreStats) {
        let mut commits = 0;
        let buckets = COMMIT_MS_BOUNDS.iter().zip(store.commits);
        let buckets = buckets.map(|(bound, in_bucket)| {
            commits += in_bucket;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound / 1e3);
            bucket.set_cumulative_count(commits);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(store.commits.iter().sum());
        histogram.set_sample_sum(store.commit_time.as_secs_f64());
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        let family = family(
            MetricType::HISTOGRAM,
            "danmaku_store_commit_seconds",
            "Time of a commit to the data file, whose posts are acknowledged after it.",
            vec![metric],
        );
        self.0.push(family);
    }

    fn frames(&mut self, shards: &StatsSnapshot) {
        self.counter(
            "danmaku_shard_passes_total",
            "Passes of a shard over a room's viewers.",
            shards.passes,
        );
        self.counter(
            "danmaku_frames_offered_total",
            "Frames due to be written to a viewer: once per viewer and frame.",
            shards.frames_offered,
        );
        self.counter(
            "danmaku_frames_written_total",
            "Frames written whole: once per viewer and frame.",
            shards.frames_written,
        );
        self.add(
            MetricType::COUNTER,
            "danmaku_frames_skipped_total",
            "Frames not written to a viewer: too many bytes or too old a frame waited, or the viewer was evicted or gone.",
            [
                count(shards.frames_skipped_bytes).with("reason", "bytes"),
                count(shards.frames_skipped_age).with("reason", "age"),
                count(shards.frames_skipped_evicted).with("reason", "evicted"),
                count(shards.frames_skipped_closed).with("reason", "closed"),
            ],
        );
        self.counter(
            "danmaku_written_bytes_total",
            "Bytes written to viewers, of all kinds.",
            shards.bytes_written,
        );
        self.counter(
            "danmaku_partial_writes_total",
            "Writes that only took part of their bytes.",
            shards.partial_writes,
        );
        self.counter(
            "danmaku_gaps_written_total",
            "Gap messages written.",
            shards.gaps_written,
        );
        self.counter(
            "danmaku_controls_written_total",
            "Messages written other than frames and gaps, including pings, pongs and closes.",
            shards.controls_written,
        );
        self.counter(
            "danmaku_controls_unsent_total",
            "Messages for a viewer that had left or was closing.",
            shards.controls_unsent,
        );
        self.counter(
            "danmaku_pings_written_total",
            "Pings written to silent viewers.",
            shards.pings_written,
        );
    }

    fn viewers(&mut self, shards: &StatsSnapshot) {
        self.gauge(
            "danmaku_viewers",
            "Viewers, including closing ones.",
            shards.viewers,
        );
        self.gauge(
            "danmaku_viewers_behind",
            "Viewers with something in their outbox.",
            shards.viewers_behind,
        );
        self.gauge(
            "danmaku_outbox_bytes",
            "Bytes in outboxes; a frame that several viewers wait for is stored once but counted for each.",
            shards.outbox_bytes,
        );
        self.add(
            MetricType::COUNTER,
            "danmaku_viewers_evicted_total",
            "Viewers evicted: behind for too long, or too many unskippable bytes (control) or events waiting.",
            [
                count(shards.evicted_behind).with("reason", "behind"),
                count(shards.evicted_control).with("reason", "control"),
                count(shards.evicted_events).with("reason", "events"),
            ],
        );
        self.counter(
            "danmaku_viewers_closed_idle_total",
            "Viewers closed because nothing was heard from them.",
            shards.closed_idle,
        );
        self.counter(
            "danmaku_viewer_closes_begun_total",
            "Viewer closes begun, for any reason.",
            shards.closes_begun,
        );
        self.counter(
            "danmaku_viewer_closes_forced_total",
            "Viewers' connections reset because their close took too long.",
            shards.closes_forced,
        );
        self.counter(
            "danmaku_viewers_broken_total",
            "Viewers whose connection failed while it was written to.",
            shards.broken,
        );
    }

    /// The names without our prefix are those of Prometheus's own client
    /// libraries, which dashboards know
    /// (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).
    fn process(&mut self, process: &Process) {
        if let Some(CpuTime { user, system }) = process.cpu {
            self.add(
                MetricType::COUNTER,
                "process_cpu_seconds_total",
                "CPU time of the process, user and system.",
                [sample((user + system).as_secs_f64())],
            );
            self.add(
                MetricType::COUNTER,
                "danmaku_process_cpu_seconds_total",
                "CPU time of the process, by mode.",
                [
                    sample(user.as_secs_f64()).with("mode", "user"),
                    sample(system.as_secs_f64()).with("mode", "system"),
                ],
            );
        }
        if let Some(started) = process.started {
            self.add(
                MetricType::GAUGE,
                "process_start_time_seconds",
                "When the process was started, in seconds since 1970 UTC.",
                [sample(started.as_secs_f64())],
            );
        }
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Memory of the process in RAM.",
                process.resident_bytes,
            ),
            (
                "danmaku_process_anonymous_memory_bytes",
                "Memory of the process in RAM that no file stands behind: heap and stacks.",
                process.anonymous_bytes,
            ),
            (
                "process_open_fds",
                "Open file descriptors.",
                process.descriptors,
            ),
            (
                "process_max_fds",
                "File descriptors the process may open.",
                process.descriptors_max,
            ),
            (
                "danmaku_kernel_tcp_memory_bytes",
                "Memory in TCP buffers of the whole machine, not of this process alone.",
                process.tcp_bytes,
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                self.gauge(name, help, value);
            }
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(MetricType::COUNTER, name, help, [count(value)]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.add(MetricType::GAUGE, name, help, [count(value)]);
    }

    fn add(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample>,
    ) {
        let samples = samples.into_iter().map(|sample| sample.of(kind));
        self.0.push(family(kind, name, help, samples.collect()));
    }
}

fn family(kind: MetricType, name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// One sample of a family.
struct Sample {
    label: Option<(&'static str, &'static str)>,
    value: f64,
}

fn sample(value: f64) -> Sample {
    Sample { label: None, value }
}

fn count(value: u64) -> Sample {
    sample(float(value))
}

/// The format has no integers: exact up to 2^53, which no counter here reaches.
fn float(value: u64) -> f64 {
    value as f64
}

impl Sample {
    fn with(mut self, label: &'static str, value: &'static str) -> Self {
        self.label = Some((label, value));
        self
    }

    fn of(self, kind: MetricType) -> Metric {
        let labels = self.label.map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut metric = Metric::from_label(labels.into_iter().collect());
        if kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(self.value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(self.value);
            metric.set_gauge(gauge);
        }
        metric
    }
}
