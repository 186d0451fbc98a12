//! The scenarios against a server that is broken on purpose: without a fault it passes, with one in 10,000 comments it fails.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

#[expect(dead_code, reason = "the other test file uses the other faults")]
mod double;

use std::path::PathBuf;
use std::process::Stdio;

use double::{Double, Fault, LET_IN, PATIENCE, Positions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

struct Ran {
    code: i32,
    report: Value,
    text: String,
}

async fn loadtest(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
        .args(args)
        .output()
        .await
        .unwrap()
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("danmaku-scenario-{}-{name}", std::process::id()))
}

async fn scenario(double: &Double, name: &str, settings: &[&str]) -> Ran {
    let path = scratch(&format!("{name}-{}.json", double.address.port()));
    let url = format!("http://{}", double.address);
    let mut args = vec![name, "--url", &url, "--json", path.to_str().unwrap()];
    for setting in settings {
        args.push(setting);
    }
    let output = loadtest(&args).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let report = std::fs::read(&path).unwrap_or_else(|error| panic!("{error}: {text}"));
    let _ = std::fs::remove_file(&path);
    Ran {
        code: output.status.code().unwrap(),
        report: serde_json::from_slice(&report).unwrap(),
        text,
    }
}

/// Lateness depends on the machine, and is not tested here.
const UNHURRIED: [&str; 4] = [
    "--late-ms=60000",
    "--slo.p99-beyond-window-ms=60000",
    "--slo.window-ms-max=60000",
    "--slo.lateness-p99-ms-max=60000",
];

async fn passes(name: &str, settings: &[&str]) -> Value {
    let double = Double::start(Fault::None).await;
    let common = [
        "--duration-s=4",
        "--drain-s=60",
        "--viewers=60",
        "--rate=40",
    ];
    let settings = [&common[..], &UNHURRIED, settings].concat();
    let ran = scenario(&double, name, &settings).await;
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert!(ran.text.contains("PASS: "), "{}", ran.text);
    assert_eq!(ran.report["passed"], true, "{}", ran.text);
    ran.report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_room_fills_while_people_write() {
    let report = passes("hot-room", &["--connect-rate=30"]).await;
    assert_eq!(report["setup"]["spec"]["viewers"], 60);
    // Viewers that joined late did not get earlier comments: fewer deliveries than posts times viewers.
    let acknowledged = report["posts"]["acknowledged"].as_u64().unwrap();
    let delivered = report["audit"]["delivered"].as_u64().unwrap();
    assert!(delivered > 0 && delivered < 60 * acknowledged, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rooms_are_audited_by_room() {
    let report = passes("many-rooms", &["--rooms=10"]).await;
    let rooms = report["rooms"].as_array().unwrap();
    let delivered = |room: &Value| room["audit"]["delivered"].as_u64().unwrap();
    assert!(
        delivered(&rooms[0]) > 2 * delivered(rooms.last().unwrap()),
        "{rooms:#?}"
    );
    let sum: u64 = rooms.iter().map(delivered).sum();
    assert_eq!(report["audit"]["delivered"].as_u64(), Some(sum));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_has_most_posts_in_its_middle() {
    let report = passes("burst", &["--rate=10", "--duration-s=6"]).await;
    assert!(report["posts"]["due"].as_u64() > Some(250), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_that_come_and_go_lose_nothing() {
    let report = passes("churn", &["--churn-per-second=20"]).await;
    assert!(
        report["returns"]["rejoined"].as_u64() > Some(0),
        "{report:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_viewers_do_not_disturb_the_others() {
    let settings = ["--slow-after-s=1", "--slow-bytes-per-second=2000"];
    let report = passes("slow-viewers", &settings).await;
    assert!(
        report["ends"]["stalled"]["open"].as_u64() > Some(0),
        "{report:#}"
    );
}

/// Regression: a run that ended before any viewer was slow passed.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_before_viewers_are_slow_fails() {
    let double = Double::start(Fault::None).await;
    let settings = "--viewers=20 --duration-s=900 --slow-after-s=600 --rate=40";
    let child = Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
        .args([
            "slow-viewers",
            "--url",
            &format!("http://{}", double.address),
        ])
        .args(settings.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    double.posts_until(40).await;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let verdict: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        verdict.contains(
            "FAIL (partial: ended early): slow-viewers is not within: viewers that stopped"
        ),
        "{verdict}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_reports_its_steps() {
    let settings = ["--from=10", "--to=20", "--duration-s=2", "--drain-s=60"];
    let report = passes("search", &settings).await;
    let steps = report["scenario"]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{steps:#?}");
}

/// Regression: when a step could not run, for example because the previous one had killed the server, all results were
/// discarded.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_whose_server_dies_reports_its_results_so_far() {
    let double = Double::start(Fault::GoWithTheFirst).await;
    let settings = [
        "--from=10",
        "--to=20",
        "--precision-percent=60",
        "--rate=40",
    ];
    let more = ["--duration-s=2", "--drain-s=60"];
    let settings = [&settings[..], &more, &UNHURRIED].concat();
    let ran = scenario(&double, "search", &settings).await;
    let (steps, text) = (&ran.report["scenario"]["steps"], &ran.text);
    let met: Vec<bool> = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["met"].as_bool().unwrap())
        .collect();
    assert_eq!(met, [true, false, false], "{text}");
    let why = steps[1]["failed"][0].as_str().unwrap();
    assert!(why.starts_with("could not run: "), "{why}");
    assert_eq!(
        (ran.code, &ran.report["partial"]),
        (0, &false.into()),
        "{text}"
    );
    assert_eq!(ran.report["setup"]["spec"]["viewers"], 10, "{text}");
}

/// A search that is interrupted in its second step reports its first.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_search_reports_its_results_so_far() {
    let double = Double::start(Fault::None).await;
    let path = scratch("search-ended.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
        .args(["search", "--url", &format!("http://{}", double.address)])
        .args("--from=10 --to=20 --rate=40 --duration-s=3 --drain-s=60".split(' '))
        .args(UNHURRIED)
        .arg("--json")
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    while !said.contains("within all limits") {
        said = lines.next_line().await.unwrap().unwrap();
    }
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    while lines.next_line().await.unwrap().is_some() {}
    let status = child.wait().await.unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let _ = std::fs::remove_file(&path);
    let verdict = report["verdict"].as_str().unwrap();
    assert!(
        verdict.starts_with("PASS (partial: ended early): search is within all"),
        "{verdict}"
    );
    assert!(
        verdict.contains("the most that met them is 10 viewers"),
        "{verdict}"
    );
    assert_eq!(status.code(), Some(0), "{verdict}");
}

/// Regression: viewers that could not connect or reconnect were reported as having lost comments they could never have
/// received, and the report did not say why they could not connect.
#[tokio::test(flavor = "multi_thread")]
async fn refused_viewers_are_counted_and_have_lost_nothing() {
    let run = async |name: &str, settings: &[&str]| {
        let double = Double::start(Fault::RefuseLate).await;
        let common = ["--duration-s=3", "--drain-s=60", "--rate=40"];
        let settings = [&common[..], settings].concat();
        let ran = scenario(&double, name, &settings).await;
        let (report, text) = (&ran.report, &ran.text);
        assert_eq!(
            (ran.code, &report["audit"]["lost"]),
            (1, &0.into()),
            "{text}"
        );
        assert!(report["audit"]["delivered"].as_u64() > Some(0), "{text}");
        let refused = &report["connect_failures"]["503 Service Unavailable: overloaded"];
        let what = "viewers that did not get in";
        let checks = report["scenario"]["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["what"] == what).unwrap();
        assert_eq!(
            check["value"].as_f64(),
            refused.as_u64().map(|n| n as f64),
            "{text}"
        );
        refused.as_u64().unwrap()
    };
    let late = ["--viewers=40", "--connect-rate=200"];
    assert_eq!(run("hot-room", &late).await, 40 - LET_IN);
    let again = ["--viewers=20", "--churn-per-second=20"];
    assert!(run("churn", &again).await > 0);
}

/// One room, 10,000 comments, one fault.
async fn one_in_ten_thousand(fault: Fault, positions: Positions) -> Ran {
    let double = Double::start_at(fault, positions).await;
    let settings = [
        "--viewers=6",
        "--connect-rate=1000",
        "--rate=1000",
        "--duration-s=10",
        "--drain-s=60",
        "--late-ms=400",
        "--slo.p99-beyond-window-ms=10000",
    ];
    let ran = scenario(&double, "hot-room", &settings).await;
    let acknowledged = ran.report["posts"]["acknowledged"].as_u64().unwrap();
    assert!((8_000..12_000).contains(&acknowledged), "{}", ran.text);
    ran
}

/// The same with dense and with sparse positions: the audit finds exactly the expected faults.
async fn exactly_in_ten_thousand(fault: Fault, expected: [u64; 3]) {
    let run = |positions| one_in_ten_thousand(fault, positions);
    let (dense, sparse) = tokio::join!(run(Positions::Dense), run(Positions::Sparse));
    for ran in [dense, sparse] {
        let audit = &ran.report["audit"];
        let found = ["lost", "duplicate", "reordered"].map(|name| audit[name].as_u64().unwrap());
        assert_eq!((ran.code, found), (1, expected), "{}", ran.text);
        assert!(ran.text.contains("FAIL: "), "{}", ran.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dropped_comment_in_ten_thousand_is_lost() {
    exactly_in_ten_thousand(Fault::DropComment, [6, 0, 0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_repeated_comment_in_ten_thousand_is_duplicate() {
    exactly_in_ten_thousand(Fault::RepeatComment, [6, 6, 0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_swapped_comments_in_ten_thousand_are_reordered() {
    exactly_in_ten_thousand(Fault::SwapComments, [0, 0, 12]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_of_700_ms_among_ten_thousand_comments_is_late() {
    let ran = one_in_ten_thousand(Fault::Stall, Positions::Dense).await;
    // At 1,000 comments a second, dozens are posted in the first part of the stall. A hiccup of the machine delays fewer.
    let late = ran.report["audit"]["late"].as_u64();
    assert!(ran.code == 1 && late >= Some(6 * 50), "{}", ran.text);
    assert!(ran.text.contains("late, %"), "{}", ran.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_one_line_and_exit_code_2() {
    let double = Double::start(Fault::None).await;
    let url = format!("http://{}", double.address);
    let (broken, unknown) = (scratch("broken.toml"), scratch("unknown.toml"));
    std::fs::write(&broken, "scenario = \"storm\"\nviewers = = 3\n").unwrap();
    std::fs::write(&unknown, "scenario = \"hot-room\"\nviewerz = 3\n").unwrap();
    let cases: [&[&str]; 13] = [
        // Found before the run, so that no run is wasted.
        &[
            "hot-room",
            "--url",
            &url,
            "--json",
            "/nowhere/to/be/found.json",
        ],
        &["storm", "--url", &url, "--html", "/"],
        &["hot-room", "--url", "http://127.0.0.1:1"],
        &["hot-room", "--url", &url, "--viewerz=3"],
        &["hot-room", "--url", &url, "--viewers=100000000"],
        &["hot-room", "--url", &url, "--viewers=0"],
        &["hot-room", "--url", &url, "--corpus=/nowhere/to/be/found"],
        &["restart", "--url", &url, "--start=true"],
        &["slow-viewers", "--url", &url, "--duration-s=2"],
        &["soak", "--url", &url],
        &["scenario", "/nowhere/to/be/found.toml"],
        &["scenario", broken.to_str().unwrap()],
        &["scenario", unknown.to_str().unwrap()],
    ];
    for args in cases {
        let output = loadtest(args).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2)
                && text.starts_with("danmaku-loadtest: ")
                && text.lines().count() == 1,
            "{args:?}: {text}"
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    let _ = (std::fs::remove_file(broken), std::fs::remove_file(unknown));
}
