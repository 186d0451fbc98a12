//! The report of an invented scenario.

use std::sync::Arc;

use danmaku_wire::RoomId;

use crate::audit::Findings;
use crate::clock::Moment;
use crate::floor::Floor;
use crate::ingest::PostCost;
use crate::latency::Distribution;
use crate::limits::{Evidence, judge};
use crate::process::{CpuTime, Memory};
use crate::report::*;
use crate::server_side::Source;
use crate::spec::Spec;
use crate::swarm::Delivered;
use crate::timeline::{Mark, Recorder, Sample, Usage};

/// A storm that passed.
pub(crate) fn sample_report() -> RunReport {
    let mut report = RunReport::new(setup(), connect(), &outcome(), false);
    report.set_post_cost(PostCost {
        posts: 100,
        post_micros: 30.0,
    });
    let floor = Floor {
        sends: 1000,
        send_micros: 5.0,
        ..Floor::default()
    };
    report.set_floor([floor, floor], 2);
    report.set_scenario(scenario(&report));
    report
}

/// The same with every possible fault: nothing in it is empty.
pub(crate) fn faulty_report() -> RunReport {
    let mut report = sample_report();
    report.posts.refused.insert("rate_limited".to_owned(), 3);
    report.posts.failed.insert("timed out".to_owned(), 2);
    report
        .connect_failures
        .insert("503 too_many_connections".to_owned(), 2);
    report.ends.closes.insert(4001, 5);
    report.ends.faults.insert("masked frame".to_owned(), 1);
    report.ends.stalled = Some(StalledEnds {
        open: 3,
        closes: [(4001, 2)].into(),
        silent: 1,
        gaps: 4,
        skipped: 90,
        frames: 70,
    });
    report.audit.lost = 12;
    report.rooms[0].audit.lost = 12;
    report.events[0].problem = Some("exit code 1".to_owned());
    let mut scenario = scenario(&report);
    scenario.checks[0].value = Some(12.0);
    scenario.checks[0].met = false;
    let steps = [(500.0, true), (4000.0, false)]
        .map(|(value, met)| Step {
            value,
            met,
            failed: ["faults of the audit".to_owned()]
                .into_iter()
                .filter(|_| !met)
                .collect(),
            checks: scenario.checks.clone(),
        })
        .into();
    report.set_scenario(scenario.searched_by(steps));
    report
}

fn scenario(report: &RunReport) -> ScenarioReport {
    let evidence = Evidence {
        tally: report.audit,
        delivered_min: 1,
        posts: [report.posts.due, report.posts.acknowledged],
        events: report.events.clone(),
        memory_mib_per_hour: Some(1.5),
        ..Evidence::default()
    };
    ScenarioReport {
        checks: judge(&report.setup.spec.slo, &evidence),
        memory_mib_per_hour: Some(1.5),
        ..ScenarioReport::default()
    }
}

fn event() -> Event {
    Event {
        what: "storm".to_owned(),
        at_s: 10.0,
        viewers: 500,
        back: 500,
        last_back_s: Some(1.25),
        per_second: 400.0,
        down_s: Some(0.5),
        server_pid: Some(4321),
        problem: None,
    }
}

fn setup() -> Setup {
    let mut spec = Spec::shipped("storm").unwrap();
    (spec.viewers, spec.to) = (500, 500.0);
    spec.encodings = Some("deflate".parse().unwrap());
    spec.slo.memory_mib_per_hour_max = Some(64.0);
    Setup {
        command: ["danmaku-loadtest", "storm", "--viewers", "500"]
            .map(str::to_owned)
            .into(),
        version: "0.0.0".to_owned(),
        server_version: Some("0.0.0".to_owned()),
        spec,
        window_ms: 0,
        machine: Machine::this(),
    }
}

fn connect() -> ConnectReport {
    ConnectReport {
        viewers: 500,
        seconds: 0.4,
        server_micros: Some(60.0),
        memory_before: Some(Memory::default()),
        memory_idle: Some(Memory {
            resident_bytes: 20 << 20,
            anonymous_bytes: 9 << 20,
        }),
        server_bytes_per_viewer: Some(900),
        own_bytes_per_viewer: Some(300),
    }
}

fn distribution(base: u64) -> Distribution {
    let mut distribution = Distribution::default();
    for step in 0..1000_u64 {
        distribution.record(base + step * 900 + step * step / 3, 1 + step % 4);
    }
    distribution
}

fn outcome() -> Outcome {
    let mut outcome = Outcome {
        seconds: 20.0,
        window_ms: 1000,
        server_source: Some(Source::Metrics),
        server_cpu: Some(CpuTime {
            user_ms: 400.0,
            system_ms: 900.0,
        }),
        server_memory: Some(Memory {
            resident_bytes: 30 << 20,
            anonymous_bytes: 12 << 20,
        }),
        own_cpu: Some(CpuTime {
            user_ms: 100.0,
            system_ms: 200.0,
        }),
        viewers_cpu: Some(CpuTime {
            user_ms: 80.0,
            system_ms: 150.0,
        }),
        counters: Some([("posts".to_owned(), 200.0)].into()),
        caught_up: true,
        ..Outcome::default()
    };
    outcome.delivered[2] = Delivered {
        frames: 10_000,
        bytes: 3_000_000,
        comments: 100_000,
    };
    outcome.publication.due = 200;
    outcome.publication.acknowledged = 200;
    outcome.publication.lateness = distribution(5);
    outcome.publication.answer = distribution(100);
    outcome.result.findings = Findings::default();
    outcome.result.findings.tally.delivered = 100_000;
    outcome.result.findings.stages[0].each = distribution(1_000);
    outcome.result.findings.stages[0].seal = distribution(400);
    outcome.result.incidents.connects = distribution(300);
    outcome.rooms = Arc::new([RoomId::parse("loadtest-0").unwrap()]);
    outcome.result.findings.rooms = vec![outcome.result.findings.tally];
    outcome.result.incidents.rejoined = 500;
    outcome.result.incidents.resumed = 480;
    outcome.result.incidents.renumbered = 20;
    outcome.result.incidents.unreplayed = 7;
    outcome.result.incidents.retries = 40;
    outcome.result.incidents.rejoins = distribution(20_000);
    outcome.events = vec![event()];
    outcome.spans.post_to_seal = distribution(500);
    outcome.spans.seal_to_first = distribution(50);
    outcome.spans.first_to_last = distribution(900);
    outcome.spans.last[0] = distribution(2_000);
    outcome.timeline = timeline();
    outcome
}

fn timeline() -> Timeline {
    let recorder = Recorder::default();
    let samples = (1..=22_u32)
        .map(|second| {
            let at = f64::from(second);
            recorder.posted(Moment::from_micros(u64::from(second) * 1_000_000), 20);
            let usage = Usage {
                user_percent: 2.0 + at,
                system_percent: 5.0,
                resident_bytes: (20 << 20) + u64::from(second) * 4096,
                anonymous_bytes: 9 << 20,
            };
            let mut sample = Sample {
                t_s: at,
                interval_s: 1.0,
                viewers_up: 500,
                frames: 500,
                comments: 5000,
                bytes: 150_000,
                posts: 10,
                acknowledged: 10,
                server: Some(usage),
                generator: Some(usage),
                kernel_tcp_bytes: Some(3 << 20),
                server_kernel_tcp_bytes: Some(5 << 20),
                ..Sample::default()
            };
            sample.latency = distribution(u64::from(second) * 1000).summary();
            sample.lateness = distribution(120).summary();
            sample
        })
        .collect();
    Timeline {
        started_unix_ms: 1_767_225_600_000,
        marks: [(1.5, "posting"), (11.5, "storm"), (20.0, "drain")]
            .map(|(at_s, what)| Mark {
                at_s,
                what: what.to_owned(),
            })
            .into(),
        samples,
    }
}
