//! The binary against a server that is broken on purpose: the report must name the fault.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

#[expect(dead_code, reason = "the other test files use the other faults")]
mod double;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Output;
use std::time::Duration;

use double::{Double, Fault, PATIENCE, Positions, catches};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Command;

/// Every fault happens once in each of the two rooms, to one viewer or to all 15.
const VIEWERS_PER_ROOM: u64 = 15;
/// Each has at least one frame.
const VIEWERS_PER_ENCODING: u64 = 10;

async fn loadtest(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
        .args(args)
        .output()
        .await
        .unwrap()
}

struct Report(PathBuf);

impl Report {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!(
            "danmaku-loadtest-{}-{name}.json",
            std::process::id()
        )))
    }

    fn read(&self) -> Value {
        serde_json::from_slice(&std::fs::read(&self.0).unwrap()).unwrap()
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn run(address: SocketAddr, name: &str, more: &[&str]) -> (i32, Value, String) {
    let report = Report::new(name);
    let (url, path) = (
        format!("http://{address}"),
        report.0.to_str().unwrap().to_owned(),
    );
    let mut args: Vec<&str> =
        "run --viewers 30 --rooms 2 --duration-s 2 --settle-s 0 --drain-s 60 --rate 120 --late-ms 300 --url"
            .split(' ')
            .collect();
    args.extend([url.as_str(), "--json", &path]);
    args.extend(more);
    let output = loadtest(&args).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), report.read(), text)
}

/// Runs against doubles with one fault: over WebSocket with dense and with sparse positions, and over Server-Sent Events with
/// sparse ones. Checks the exit code and report of each.
async fn against(fault: Fault, check: impl Fn(i32, &Value)) {
    let manners = [
        (Positions::Dense, "ws"),
        (Positions::Sparse, "ws"),
        (Positions::Sparse, "sse"),
    ];
    for (positions, protocol) in manners {
        let double = Double::start_at(fault, positions).await;
        let name = format!("{fault:?}-{positions:?}-{protocol}");
        let (code, report, text) = run(double.address, &name, &["--protocol", protocol]).await;
        assert_eq!(report["setup"]["spec"]["protocol"], protocol, "{text}");
        assert_eq!(report["audit"]["undecodable"], 0, "{name}: {text}");
        let no_faults = serde_json::json!({});
        assert_eq!(report["ends"]["faults"], no_faults, "{name}: {text}");
        check(code, &report);
    }
}

/// The audit's counts of faults: lost, duplicate, reordered, corrupt.
fn counts(report: &Value) -> [u64; 4] {
    ["lost", "duplicate", "reordered", "corrupt"]
        .map(|name| report["audit"][name].as_u64().unwrap())
}

/// How often the chain of positions was broken.
fn breaks(report: &Value) -> u64 {
    report["audit"]["unchained"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_server_passes() {
    against(Fault::None, |code, report| {
        assert_eq!((code, counts(report)), (0, [0; 4]), "{report:#}");
        assert_eq!(breaks(report), 0, "{report:#}");
        let acknowledged = report["posts"]["acknowledged"].as_u64().unwrap();
        assert!(acknowledged > 100, "{report:#}");
        assert_eq!(
            report["audit"]["delivered"].as_u64(),
            Some(acknowledged * VIEWERS_PER_ROOM)
        );
        assert_eq!(report["posts"]["due"], report["posts"]["acknowledged"]);
        let traffic = report["traffic"].as_object().unwrap();
        for encoding in traffic.values() {
            let frames = encoding["frames"].as_u64();
            assert!(frames >= Some(VIEWERS_PER_ENCODING), "{report:#}");
        }
        let encodings = traffic.len();
        let is_sse = report["setup"]["spec"]["protocol"] == "sse";
        assert_eq!(encodings, if is_sse { 2 } else { 3 });
        let latency = &report["latency"][0]["each_viewer"];
        let [p50_ms, max_ms] = ["p50_ms", "max_ms"].map(|name| latency[name].as_f64().unwrap());
        assert!(0.0 < p50_ms && p50_ms <= max_ms, "{report:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_over_websocket_are_audited_too() {
    let double = Double::start(Fault::None).await;
    let (code, report, text) = run(double.address, "ws", &["--post-via", "ws"]).await;
    assert_eq!((code, counts(&report)), (0, [0; 4]), "{text}");
    let acknowledged = report["posts"]["acknowledged"].as_u64().unwrap();
    assert!(
        acknowledged > 100 && report["posts"]["due"] == acknowledged,
        "{text}"
    );
    assert_eq!(
        report["audit"]["delivered"].as_u64(),
        Some(acknowledged * VIEWERS_PER_ROOM),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_comment_is_lost_to_every_viewer() {
    against(Fault::DropComment, |code, report| {
        let lost = 2 * VIEWERS_PER_ROOM;
        assert_eq!((code, counts(report)), (1, [lost, 0, 0, 0]), "{report:#}");
        assert_eq!(breaks(report), 0, "{report:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_comment_is_duplicate_and_the_one_it_hides_is_lost() {
    against(Fault::RepeatComment, |code, report| {
        assert_eq!(
            (code, counts(report)),
            (1, [2 * VIEWERS_PER_ROOM, 2 * VIEWERS_PER_ROOM, 0, 0]),
            "{report:#}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_comments_are_reordered() {
    against(Fault::SwapComments, |code, report| {
        assert_eq!(
            (code, counts(report)),
            (1, [0, 0, 4 * VIEWERS_PER_ROOM, 0]),
            "{report:#}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_comment_is_corrupt() {
    against(Fault::CorruptComment, |code, report| {
        assert_eq!(
            (code, counts(report)),
            (1, [0, 0, 0, 2 * VIEWERS_PER_ROOM]),
            "{report:#}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_comment_is_accounted_for() {
    against(Fault::ShedComment, |code, report| {
        assert_eq!((code, counts(report)), (0, [0; 4]), "{report:#}");
        assert_eq!(
            report["audit"]["shed"].as_u64(),
            Some(2 * VIEWERS_PER_ROOM),
            "{report:#}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_of_700_ms_shows_as_late() {
    against(Fault::Stall, |code, report| {
        assert_eq!((code, counts(report)), (0, [0; 4]), "{report:#}");
        // What was posted in the first part of the stall is late for everybody; a hiccup of the machine delays less.
        let late = report["audit"]["late"].as_u64();
        assert!(late >= Some(5 * VIEWERS_PER_ROOM), "{report:#}");
        assert!(
            report["latency"][0]["each_viewer"]["max_ms"].as_f64() > Some(500.0),
            "{report:#}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_withheld_from_one_viewer_is_lost() {
    against(Fault::DropFrame, |code, report| {
        let [lost, others @ ..] = counts(report);
        assert!(code == 1 && lost >= 4 && others == [0; 3], "{report:#}");
        assert_eq!(breaks(report), 2, "{report:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_one_viewer_gets_twice_is_duplicate() {
    against(Fault::RepeatFrame, |code, report| {
        let [lost, duplicate, reordered, corrupt] = counts(report);
        assert!(
            code == 1 && duplicate >= 4 && [lost, reordered, corrupt] == [0; 3],
            "{report:#}"
        );
        assert_eq!(breaks(report), 2, "{report:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_sent_after_its_successor_is_reordered() {
    against(Fault::SwapFrames, |code, report| {
        let [lost, duplicate, reordered, corrupt] = counts(report);
        assert!(
            code == 1 && reordered >= 4 && [lost, duplicate, corrupt] == [0; 3],
            "{report:#}"
        );
        assert_eq!(breaks(report), 4, "{report:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reported_gap_is_accounted_for() {
    against(Fault::GapFrame, |code, report| {
        assert_eq!((code, counts(report)), (0, [0; 4]), "{report:#}");
        assert_eq!(report["audit"]["gaps"], 2, "{report:#}");
        assert!(report["audit"]["skipped"].as_u64() >= Some(4), "{report:#}");
        assert_eq!(breaks(report), 0, "{report:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_viewer_is_counted_but_not_as_a_loss() {
    against(Fault::Evict, |code, report| {
        assert_eq!((code, counts(report)), (0, [0; 4]), "{report:#}");
        assert_eq!(report["ends"]["evicted"], 2, "{report:#}");
        assert!(
            report["audit"]["after_close"].as_u64() > Some(0),
            "{report:#}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_cut_off_silently_loses_what_follows() {
    against(Fault::Cut, |code, report| {
        assert_eq!(code, 1, "{report:#}");
        assert!(
            counts(report)[0] > 0 && report["ends"]["silent"] == 2,
            "{report:#}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_is_measured_during_a_run() {
    let double = Double::start(Fault::None).await;
    let (code, report, text) =
        run(double.address, "floor", &["--with-floor", "--floor-s", "1"]).await;
    assert_eq!(code, 0, "{text}");
    let floor = &report["floor"]["floor"];
    assert!(
        floor["sends"].as_u64() >= Some(60) && floor["short"] == 0,
        "{text}"
    );
    assert!(floor["send_micros"].as_f64() > Some(0.0), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_reports_latencies_and_idle_reports_connects() {
    let double = Double::start(Fault::None).await;
    let url = format!("http://{}", double.address);
    let report = Report::new("quiet");
    let path = report.0.to_str().unwrap();
    let quiet = "quiet --viewers 5 --post-every-ms 300 --duration-s 1 --drain-s 60 --json";
    let mut quiet: Vec<&str> = quiet.split(' ').collect();
    quiet.extend([path, "--url", &url]);
    let output = loadtest(&quiet).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let json = report.read();
    let acknowledged = json["posts"]["acknowledged"].as_u64().unwrap();
    assert!((3..=4).contains(&acknowledged), "{text}");
    assert_eq!(json["latency"][0]["each_viewer"]["count"], 5 * acknowledged);
    let output = loadtest(&["idle", "--url", &url, "--viewers", "5", "--settle-s", "0"]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("PASS: idle") && text.contains("5 in "),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_one_line_and_exit_code_2() {
    let double = Double::start(Fault::None).await;
    let url = format!("http://{}", double.address);
    let many = [
        "run",
        "--url",
        &url,
        "--replicate",
        "--rooms",
        "500",
        "--rate",
        "1000",
    ];
    let cases: [&[&str]; 12] = [
        &many,
        &[
            "run",
            "--url",
            &url,
            "--protocol",
            "sse",
            "--encodings",
            "gzip,deflate",
        ],
        &["run", "--url", "http://127.0.0.1:1", "--viewers", "1"],
        &["run", "--url", &url, "--viewers", "100000000"],
        &["run", "--url", &url, "--server-pid", "4000000000"],
        &["run", "--url", &url, "--corpus", "/nowhere/to/be/found"],
        &["run", "--url", &url, "--viewers", "1", "--rooms", "2"],
        &["run", "--url", &url, "--slow-percent", "100"],
        &["run", "--url", &url, "--room-prefix", "no spaces"],
        &["run", "--speed", "fast"],
        &["run", "--encodings", "brotli"],
        &["quiet", "--url", "ftp://127.0.0.1"],
    ];
    for args in cases {
        let output = loadtest(args).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("danmaku-loadtest: "))
            .count();
        assert_eq!(
            (output.status.code(), lines, text.lines().count()),
            (Some(2), 1, 1),
            "{args:?}: {text}"
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_still_writes_its_report_and_page() {
    let double = Double::start(Fault::None).await;
    let report = Report::new("interrupted");
    let page = Report(report.0.with_extension("html"));
    let url = format!("http://{}", double.address);
    let args = "run --viewers 30 --rooms 2 --duration-s 600 --settle-s 0 --rate 50";
    let child = Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
        .args(args.split(' '))
        .args(["--url", &url, "--json"])
        .arg(&report.0)
        .arg("--html")
        .arg(&page.0)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // As many as come due in two and a half seconds.
    double.posts_until(125).await;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let json = report.read();
    assert_eq!(json["partial"], true, "{text}");
    let verdict = json["verdict"].as_str().unwrap();
    assert!(verdict.contains("partial"), "{verdict}");
    let samples = json["timeline"]["samples"].as_array().unwrap();
    assert!((2..600).contains(&samples.len()), "{samples:?}");
    let of = |name: &str| -> u64 {
        samples
            .iter()
            .map(|sample| sample[name].as_u64().unwrap())
            .sum()
    };
    assert_eq!(of("acknowledged"), json["posts"]["acknowledged"]);
    assert!(of("frames") > 0 && of("comments") > 0 && of("bytes") > 0);
    assert!(
        samples
            .iter()
            .any(|sample| sample["latency"]["count"].as_u64() > Some(0))
    );
    assert!(
        std::fs::read_to_string(&page.0)
            .unwrap()
            .contains("partial")
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Once,
    Repeatedly,
}

/// Starts a run of ten minutes, waits until it is `ready`, and sends it a signal once or repeatedly.
async fn signalled(
    name: &str,
    server: SocketAddr,
    ready: impl Future<Output = ()>,
    (signal, manner): (Signal, Manner),
) -> (i32, String, Report) {
    let report = Report::new(name);
    let url = format!("http://{server}");
    let args = "run --viewers 30 --duration-s 600 --settle-s 0 --drain-s 60 --rate 120";
    // The tests may run with SIGHUP ignored, as under `nohup`.
    let child = Command::new("env")
        .args([
            "--default-signal=HUP",
            env!("CARGO_BIN_EXE_danmaku-loadtest"),
        ])
        .args(args.split(' '))
        .args(["--url", &url, "--json"])
        .arg(&report.0)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    catches(pid, signal).await;
    ready.await;
    kill_process(pid, signal).unwrap();
    let mut ended = pin!(tokio::time::timeout(PATIENCE, child.wait_with_output()));
    let output = loop {
        tokio::select! {
            output = &mut ended => break output.unwrap().unwrap(),
            // Two signals at the same time would be one.
            () = tokio::time::sleep(Duration::from_millis(500)), if manner == Manner::Repeatedly => {
                let _ = kill_process(pid, signal);
            }
        }
    };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), text, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_terminal_closes_writes_its_report() {
    let double = Double::start(Fault::None).await;
    let (ready, how) = (double.posts_until(100), (Signal::HUP, Manner::Once));
    let (code, text, report) = signalled("hang-up", double.address, ready, how).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(report.read()["partial"], true, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_ends_a_run_at_once() {
    // The kernel accepts connections, but nobody answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap();
    let how = (Signal::INT, Manner::Repeatedly);
    let (code, text, report) = signalled("twice", address, async {}, how).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("interrupted twice: no report"), "{text}");
    assert!(!report.0.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn compare_exits_with_1_if_the_other_run_is_worse() {
    let double = Double::start(Fault::None).await;
    let good = Report::new("compare-good");
    let url = format!("http://{}", double.address);
    let args = "run --viewers 10 --duration-s 1 --settle-s 0 --drain-s 60 --rate 20 --url";
    let mut args: Vec<&str> = args.split(' ').collect();
    let path = good.0.to_str().unwrap().to_owned();
    args.extend([&url, "--json", &path]);
    assert_eq!(loadtest(&args).await.status.code(), Some(0));
    let worse = Report::new("compare-worse");
    let mut json = good.read();
    json["audit"]["lost"] = 5.into();
    std::fs::write(&worse.0, json.to_string()).unwrap();
    let odd = Report::new("compare-odd");
    json["schema"] = 99.into();
    std::fs::write(&odd.0, json.to_string()).unwrap();
    for (other, code, word) in [
        (&good, 0, "nothing got worse"),
        (&worse, 1, "WORSE"),
        (&odd, 2, "schema 99"),
        (&Report::new("compare-none"), 2, "compare-none"),
    ] {
        let output = loadtest(&["compare", &path, other.0.to_str().unwrap()]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(word), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_peers_with_broken_frames_fails() {
    for (fault, code, verdict) in [
        (
            Fault::None,
            0,
            "PASS: the server answers, and has closed every",
        ),
        (Fault::ReadNothing, 1, "FAIL: the server answers, but kept"),
    ] {
        let double = Double::start(fault).await;
        let url = format!("http://{}", double.address);
        let args = [
            "abuse",
            "--url",
            &url,
            "--connections",
            "40",
            "--duration-s",
            "1",
        ];
        let output = loadtest(&args).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(verdict), "{text}");
    }
}
