//! The scenarios in which viewers lose their connections, against servers that resume them correctly or not.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

#[expect(dead_code, reason = "the other test files use the other faults")]
mod double;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use double::process::{LINGER, Manner, Site, serve_if_told};
use double::{CUTS, Double, Fault, Positions};
use serde_json::Value;
use tokio::process::Command;

const VIEWERS: u64 = 30;
const POSTS_PER_SECOND: f64 = 40.0;
/// Longer than any run of these tests.
const DEADLINE: Duration = Duration::from_secs(90);

struct Ran {
    code: i32,
    report: Value,
    text: String,
}

impl Ran {
    /// A count of the audit.
    fn audit(&self, name: &str) -> u64 {
        self.number(&["audit", name])
    }

    fn number(&self, path: &[&str]) -> u64 {
        let found = path.iter().fold(&self.report, |value, name| &value[*name]);
        found
            .as_u64()
            .unwrap_or_else(|| panic!("{path:?}: {}", self.text))
    }

    fn event(&self) -> &Value {
        &self.report["events"][0]
    }

    /// Checks that the run passed and the audit found nothing.
    fn check_passes(&self) {
        let checks = self.report["scenario"]["checks"].as_array().unwrap();
        let all_met = checks.iter().all(|check| check["met"] != false);
        let passes = self.code == 0 && all_met && self.faults() == [0; 6];
        assert!(passes, "{}", self.text);
    }

    /// What the audit counts as faults: lost, duplicate, reordered, corrupt, contradicted, undecodable.
    fn faults(&self) -> [u64; 6] {
        [
            "lost",
            "duplicate",
            "reordered",
            "corrupt",
            "contradicted",
            "undecodable",
        ]
        .map(|name| self.audit(name))
    }
}

/// A file that is deleted when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        Self(std::env::temp_dir().join(format!("danmaku-reconnects-{id}-{number}-{name}")))
    }

    /// A recording of this length in which every comment is different. It pauses around the second in which servers are
    /// stopped, because one of them might accept a post without answering it.
    fn recording(seconds: f64) -> Self {
        let recording = Self::new("recording.jsonl");
        let lines = (0_u32..)
            .map(|number| (number, f64::from(number) / POSTS_PER_SECOND))
            .take_while(|(_, at_s)| *at_s < seconds)
            .filter(|(_, at_s)| !(0.5..1.5).contains(at_s))
            .map(|(number, at_s)| {
                let at_ms = at_s * 1000.0;
                format!("{{\"t\":{at_ms:.0},\"text\":\"comment {number}\"}}\n")
            });
        std::fs::write(&recording.0, lines.collect::<String>()).unwrap();
        recording
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Lateness depends on the machine, and is not tested here.
const UNHURRIED: [&str; 4] = [
    "--late-ms=60000",
    "--slo.p99-beyond-window-ms=60000",
    "--slo.window-ms-max=60000",
    "--slo.lateness-p99-ms-max=60000",
];

/// Nor is how long viewers take to come back.
const BACK_UNHURRIED: &str = "--slo.last-back-s-max=60";

/// Runs a scenario to its end. Later settings override earlier ones.
async fn scenario(address: SocketAddr, name: &str, settings: &[&str], flags: &[&str]) -> Ran {
    let (json, recording) = (Scratch::new("report.json"), Scratch::recording(4.0));
    let viewers = format!("--viewers={VIEWERS}");
    let corpus = format!("--corpus={}", recording.0.display());
    let common = [viewers.as_str(), "--duration-s=4", "--drain-s=60"];
    // A rate is one of generated chat.
    let is_generated = settings.iter().any(|setting| setting.starts_with("--rate"));
    let corpus = (!is_generated).then_some(corpus.as_str());
    let settings = common
        .iter()
        .chain(&UNHURRIED)
        .chain(&corpus)
        .chain(settings);
    let running = Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
        .args([name, "--url", &format!("http://{address}"), "--json"])
        .arg(&json.0)
        .args(flags)
        .args(settings)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    // The output ends when no process holds it any more, so this also checks that a restarted server doesn't hold it.
    let output = tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let report = std::fs::read(&json.0).unwrap_or_else(|error| panic!("{error}: {text}"));
    Ran {
        code: output.status.code().unwrap(),
        report: serde_json::from_slice(&report).unwrap(),
        text,
    }
}

async fn storm(double: &Double, settings: &[&str]) -> Ran {
    let settings = [&["--storm-at-s=1", BACK_UNHURRIED], settings].concat();
    scenario(double.address, "storm", &settings, &[]).await
}

async fn restart(site: &Site, again: Manner, settings: &[&str]) -> Ran {
    restart_of(site, site.pid(), &site.start_again(again), settings).await
}

async fn restart_of(site: &Site, pid: u32, command: &str, settings: &[&str]) -> Ran {
    let (pid, start) = (pid.to_string(), format!("--start={command}"));
    // Posts fail for as long as the server is down.
    let failed = "--slo.failed-posts-percent-max=100";
    let common = ["--restart-at-s=1", BACK_UNHURRIED, failed, &start];
    let settings = [&common[..], settings].concat();
    let flags = ["--server-pid", &pid];
    scenario(site.address, "restart", &settings, &flags).await
}

/// Not a test: the process that the tests below start, which serves as a double.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the tests start it"]
async fn double_process() {
    serve_if_told().await;
}

/// A storm over Server-Sent Events against a double with sparse positions: viewers resume with `Last-Event-ID`.
async fn storm_of_events(double: &Double) -> Ran {
    let settings = [
        "--storm-at-s=1",
        BACK_UNHURRIED,
        "--encodings=identity,gzip",
    ];
    let flags = ["--protocol", "sse"];
    scenario(double.address, "storm", &settings, &flags).await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_every_viewer_resumes_at_its_position() {
    let dense = Double::start(Fault::None).await;
    let sparse = Double::start_at(Fault::None, Positions::Sparse).await;
    let (over_sockets, over_events) = tokio::join!(storm(&dense, &[]), storm_of_events(&sparse));
    for ran in [over_sockets, over_events] {
        ran.check_passes();
        let (event, text) = (ran.event(), &ran.text);
        assert_eq!([&event["viewers"], &event["back"]], [VIEWERS; 2], "{text}");
        assert!(event["last_back_s"].as_f64() > Some(0.2), "{text}");
        for count in ["rejoined", "resumed"] {
            assert_eq!(ran.number(&["returns", count]), VIEWERS, "{text}");
        }
        assert!(ran.audit("replayed") >= VIEWERS, "{text}");
        let acknowledged = ran.number(&["posts", "acknowledged"]);
        assert_eq!(ran.audit("delivered"), acknowledged * VIEWERS, "{text}");
        assert_eq!(ran.audit("unchained"), 0, "{text}");
    }
}

/// Storms against doubles with a fault in their replays: the audit finds exactly the faults they made.
async fn bad_replay(fault: Fault, expected: impl Fn(u64) -> [u64; 6]) {
    for positions in [Positions::Dense, Positions::Sparse] {
        let double = Double::start_at(fault, positions).await;
        let ran = match positions {
            Positions::Dense => storm(&double, &[]).await,
            Positions::Sparse => storm_of_events(&double).await,
        };
        let (text, made) = (&ran.text, double.made());
        assert!(ran.code == 1 && made >= VIEWERS, "{fault:?}: {text}");
        assert_eq!(ran.faults(), expected(made), "{fault:?}: {text}");
        assert!(
            text.contains("FAIL: storm is not within: faults of the audit"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_replays_are_counted_by_kind() {
    tokio::join!(
        bad_replay(Fault::ReplayLeavesOut, |made| [made, 0, 0, 0, 0, 0]),
        bad_replay(Fault::ReplayNothing, |made| [made, 0, 0, 0, 0, 0]),
        bad_replay(Fault::ReplayRepeats, |made| [0, made, 0, 0, 0, 0]),
        bad_replay(Fault::ReplaySwaps, |made| [0, 0, made, 0, 0, 0]),
    );
}

/// A storm after which no viewer stays connected.
async fn nobody_returns(fault: Fault) -> Ran {
    let double = Double::start(fault).await;
    // Nobody catches up, so the drain takes its full time.
    let ran = storm(&double, &["--slo.last-back-s-max=1", "--drain-s=3"]).await;
    let (event, text) = (ran.event(), &ran.text);
    assert_eq!(ran.code, 1, "{text}");
    assert!(event["last_back_s"].is_null(), "{text}");
    assert!(event["back"].as_u64() < Some(VIEWERS), "{text}");
    assert!(text.contains("the last viewer is back"), "{text}");
    assert!(ran.audit("lost") >= VIEWERS, "{text}");
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_that_are_refused_or_closed_at_once_do_not_count_as_back() {
    let (refused, sent_away) = tokio::join!(
        nobody_returns(Fault::RefuseReturn),
        nobody_returns(Fault::SendAway)
    );
    let text = &refused.text;
    assert_eq!(refused.event()["back"], 0, "{text}");
    assert_eq!(refused.number(&["returns", "rejoined"]), 0, "{text}");
    assert!(refused.number(&["returns", "retries"]) > VIEWERS, "{text}");
    let text = &sent_away.text;
    assert!(
        sent_away.number(&["ends", "closes", "1001"]) > VIEWERS,
        "{text}"
    );
    assert!(
        sent_away.number(&["returns", "rejoined"]) > VIEWERS,
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_that_are_cut_off_repeatedly_lose_nothing() {
    let double = Double::start(Fault::CutAgain).await;
    // Long enough that comments are still posted while viewers are cut off and come back.
    let longer = Scratch::recording(6.0);
    let corpus = format!("--corpus={}", longer.0.display());
    let settings = ["--slo.last-back-s-max=1", &corpus, "--duration-s=6"];
    let ran = storm(&double, &settings).await;
    assert_eq!(ran.faults(), [0; 6], "{}", ran.text);
    assert_eq!(double.made(), CUTS, "{}", ran.text);
    assert_eq!(ran.number(&["ends", "silent"]), CUTS, "{}", ran.text);
    let acknowledged = ran.number(&["posts", "acknowledged"]);
    assert_eq!(
        ran.audit("delivered"),
        acknowledged * VIEWERS,
        "{}",
        ran.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_durable_server_restarts() {
    let site = Site::start(Manner::Durable).await;
    let ran = restart(&site, Manner::Durable, &[]).await;
    let (event, text) = (ran.event(), &ran.text);
    ran.check_passes();
    assert_eq!([&event["viewers"], &event["back"]], [VIEWERS; 2], "{text}");
    assert_eq!(event["server_pid"], site.pids()[1], "{text}");
    assert!(event["down_s"].as_f64() > Some(0.0), "{text}");
    for (count, expected) in [("resumed", VIEWERS), ("renumbered", 0), ("unreplayed", 0)] {
        assert_eq!(ran.number(&["returns", count]), expected, "{text}");
    }
    assert!(ran.audit("replayed") > 0, "{text}");
    let acknowledged = ran.number(&["posts", "acknowledged"]);
    assert_eq!(ran.audit("delivered"), acknowledged * VIEWERS, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_without_memory_cannot_replay_is_counted() {
    let site = Site::start(Manner::Memory).await;
    let ran = restart(&site, Manner::Memory, &[]).await;
    let text = &ran.text;
    ran.check_passes();
    let returns = site.returns();
    assert_eq!(returns.len() as u64, VIEWERS, "{text}");
    assert!(returns.iter().all(|back| back.was.0 != back.is.0), "{text}");
    for (count, expected) in [
        ("rejoined", VIEWERS),
        ("renumbered", VIEWERS),
        ("resumed", 0),
    ] {
        assert_eq!(ran.number(&["returns", count]), expected, "{text}");
    }
    // The rest of the old epoch, and what the new one had before the viewer was back.
    let acknowledged = ran.number(&["posts", "acknowledged"]);
    let before = acknowledged - site.accepted();
    let unreplayed = returns
        .iter()
        .map(|back| before.saturating_sub(back.was.1) + back.is.1);
    let unreplayed: u64 = unreplayed.sum();
    let reported = ran.number(&["returns", "unreplayed"]);
    assert!(reported > 0, "{text}");
    // The double may have accepted a post that it did not answer.
    let unanswered = ran.number(&["posts", "due"]) - acknowledged;
    let off = reported.abs_diff(unreplayed);
    assert!(off <= unanswered * VIEWERS, "{unreplayed}: {text}");
    let whole = acknowledged * VIEWERS;
    assert_eq!(ran.audit("delivered") + reported, whole, "{text}");
    let said = format!(
        "the epoch changed for {VIEWERS} viewers: {reported} viewer-comments could not be replayed"
    );
    assert!(text.contains(&said), "{said}: {text}");
}

/// Regression: the time between the end of listening and the end of the process was not counted.
#[tokio::test(flavor = "multi_thread")]
async fn down_time_begins_when_the_server_stops_listening() {
    let site = Site::start(Manner::Lingers).await;
    let ran = restart(&site, Manner::Durable, &[]).await;
    let down_s = ran.event()["down_s"].as_f64();
    // Much less would be only the time to start a process. The harness may notice late that the server is down.
    assert!(down_s >= Some(LINGER.as_secs_f64() / 4.0), "{}", ran.text);
    assert!(
        down_s <= ran.event()["last_back_s"].as_f64(),
        "{}",
        ran.text
    );
}

/// A restart that loses what was acknowledged.
async fn forgets(again: Manner, settings: &[&str]) -> Ran {
    let site = Site::start(Manner::Durable).await;
    let settings = [settings, &["--drain-s=10"]].concat();
    let ran = restart(&site, again, &settings).await;
    assert_eq!(ran.code, 1, "{}", ran.text);
    assert!(ran.event()["problem"].is_null(), "{}", ran.text);
    assert!(
        ran.text
            .contains("FAIL: restart is not within: faults of the audit"),
        "{}",
        ran.text
    );
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restart_forgets_is_found() {
    // Viewers have everything before the restart, and nothing is posted after it.
    let short = Scratch::recording(0.5);
    let short = format!("--corpus={}", short.0.display());
    let short = [short.as_str()];
    let (last, unnoticed, all) = tokio::join!(
        forgets(Manner::LosesLast, &[]),
        forgets(Manner::LosesLast, &short),
        forgets(Manner::KeepsEpochOnly, &[]),
    );
    // The lost position is given to another comment.
    assert_eq!(last.number(&["posts", "contradicted"]), 1, "{}", last.text);
    assert!(
        last.text.contains("contradicting acknowledgements   1"),
        "{}",
        last.text
    );
    let behind = "a room that ends before its viewer's position";
    let text = &unnoticed.text;
    assert_eq!(
        unnoticed.number(&["ends", "faults", behind]),
        VIEWERS,
        "{text}"
    );
    assert_eq!(unnoticed.faults(), [0; 6], "{text}");
    assert_eq!(unnoticed.number(&["posts", "contradicted"]), 0, "{text}");
    // As many as were acknowledged before the restart or after it, whichever is less.
    assert!(all.number(&["posts", "contradicted"]) > 10, "{}", all.text);
}

/// Checks a run whose restart failed: it reports the reason and what was measured until then.
fn check_not_restarted(ran: &Ran, problem: &str) {
    let (event, text) = (ran.event(), &ran.text);
    assert_eq!((ran.code, &event["back"]), (1, &Value::from(0)), "{text}");
    assert_eq!(event["problem"], problem, "{text}");
    assert!(event["last_back_s"].is_null(), "{text}");
    // Tables break long lines.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(text).contains(&words(problem)), "{text}");
    assert!(text.contains("FAIL: "), "{text}");
    assert!(ran.audit("delivered") > 0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_come_back_is_reported() {
    let (first, second) = (
        Site::start(Manner::Durable).await,
        Site::start(Manner::Durable).await,
    );
    let deaf = second.start_again(Manner::NeverListens);
    let (ended, silent) = tokio::join!(
        // Waiting for viewers of a server that has ended would exceed the deadline.
        restart_of(
            &first,
            first.pid(),
            "sh -c 'exit 3'",
            &["--slo.last-back-s-max=600", "--drain-s=3"]
        ),
        restart_of(
            &second,
            second.pid(),
            &deaf,
            &["--slo.last-back-s-max=1", "--drain-s=3"]
        ),
    );
    let problem = "the server was started again and exited at once: exit status: 3; run the command by hand to see why";
    check_not_restarted(&ended, problem);
    assert!(ended.event()["server_pid"].is_null(), "{}", ended.text);
    let pid = second.pids()[1];
    let problem = format!("the server was started again (pid {pid}) but did not listen within 2 s");
    check_not_restarted(&silent, &problem);
    assert_eq!(silent.event()["server_pid"], pid, "{}", silent.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_stop_is_reported() {
    let site = Site::start(Manner::IgnoresTerm).await;
    let ran = restart(&site, Manner::Durable, &["--slo.last-back-s-max=1"]).await;
    let problem = format!("the server (pid {}) did not stop within 2 s", site.pid());
    check_not_restarted(&ran, &problem);
    assert_eq!(site.pids().len(), 1, "{}", ran.text);
    // It goes on serving, and is still audited.
    assert_eq!(ran.faults(), [0; 6], "{}", ran.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_other_than_the_server_is_not_stopped() {
    let site = Site::start(Manner::Durable).await;
    let mut other = Command::new("sleep")
        .arg("60")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = other.id().unwrap();
    let again = format!("--start={}", site.start_again(Manner::Durable));
    for name in ["restart", "soak"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"));
        command.args([name, "--url", &format!("http://{}", site.address)]);
        command.args(["--server-pid", &pid.to_string()]);
        if name == "restart" {
            command.arg(&again);
        }
        let output = command.output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let port = site.address.port();
        let said = format!(
            "danmaku-loadtest: --server-pid {pid}: this process does not listen on port {port}\n"
        );
        assert_eq!((output.status.code(), text), (Some(2), said));
    }
    assert!(other.try_wait().unwrap().is_none(), "it was stopped");
    other.kill().await.unwrap();
}

/// A run in which some viewers stop reading after a second.
async fn slow_viewers(double: &Double) -> Ran {
    // Frames large enough to fill the buffers of a viewer that doesn't read.
    let settings = [
        "--rate=600",
        "--encodings=identity",
        "--duration-s=8",
        "--slow-percent=20",
        "--slow-after-s=1",
        // Half of what a viewer waits when it is held up.
        "--late-ms=3000",
    ];
    scenario(double.address, "slow-viewers", &settings, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_viewers_may_be_cut_off_but_must_not_delay_others() {
    let (cuts, waits) = (
        Double::start(Fault::CutSlow).await,
        Double::start(Fault::WaitForSlow).await,
    );
    let (cut, held_up) = tokio::join!(slow_viewers(&cuts), slow_viewers(&waits));
    let slow = VIEWERS / 5;
    let (stalled, text) = (&cut.report["ends"]["stalled"], &cut.text);
    cut.check_passes();
    assert_eq!(cuts.made(), slow, "{text}");
    assert_eq!([&stalled["silent"], &stalled["open"]], [slow, 0], "{text}");
    assert_eq!(cut.number(&["ends", "silent"]), 0, "{text}");
    let acknowledged = cut.number(&["posts", "acknowledged"]);
    assert!(
        cut.audit("delivered") >= acknowledged * (VIEWERS - slow),
        "{text}"
    );
    let text = &held_up.text;
    assert_eq!((held_up.code, held_up.faults()), (1, [0; 6]), "{text}");
    assert!(
        held_up.audit("late") > 0 && text.contains("late, %"),
        "{text}"
    );
}
