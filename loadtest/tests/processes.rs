//! Viewers in several processes: they find what one process would find, and none of them outlives the run.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

#[expect(dead_code, reason = "the other test files use the other faults")]
mod double;

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use double::{Double, Fault, PATIENCE};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

struct Ran {
    code: i32,
    report: Value,
    text: String,
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("danmaku-processes-{}-{name}", std::process::id()))
}

async fn loadtest(double: &Double, name: &str, args: &str) -> Ran {
    let path = scratch(&format!("{name}.json"));
    let output = command(double, args)
        .arg("--json")
        .arg(&path)
        .output()
        .await
        .unwrap();
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

fn command(double: &Double, args: &str) -> Command {
    // The tests may run with SIGHUP ignored, as under `nohup`.
    let mut command = Command::new("env");
    command
        .args([
            "--default-signal=HUP",
            env!("CARGO_BIN_EXE_danmaku-loadtest"),
        ])
        .args(args.split_ascii_whitespace())
        .args(["--url", &format!("http://{}", double.address)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap()
}

/// The child processes of a process.
fn children(parent: Pid) -> Vec<Pid> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((head, fields)) = stat.rsplit_once(") ") else {
            continue;
        };
        let parent_of: Option<i32> = fields.split(' ').nth(1).and_then(|word| word.parse().ok());
        if parent_of == Some(parent.as_raw_nonzero().get()) {
            let number = head.split(' ').next().and_then(|word| word.parse().ok());
            children.extend(number.and_then(Pid::from_raw));
        }
    }
    children
}

/// Waits until a process has this many children.
async fn children_of(parent: Pid, count: usize) -> Vec<Pid> {
    let began = Instant::now();
    loop {
        let found = children(parent);
        if found.len() == count {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{} children", found.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn all_have_ended(processes: &[Pid]) {
    let began = Instant::now();
    while let Some(left) = processes
        .iter()
        .find(|pid| test_kill_process(**pid).is_ok())
    {
        assert!(began.elapsed() < PATIENCE, "{left:?} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_find_what_one_finds() {
    for processes in [1, 3] {
        let double = Double::start(Fault::None).await;
        let args = format!(
            "run --viewers 30 --rooms 2 --duration-s 4 --settle-s 0 --drain-s 60 --rate 60 --processes {processes}"
        );
        let ran = loadtest(&double, &format!("clean-{processes}"), &args).await;
        let (report, text) = (&ran.report, &ran.text);
        assert_eq!(ran.code, 0, "{text}");
        assert_eq!(report["setup"]["processes"], processes, "{text}");
        let acknowledged = report["posts"]["acknowledged"].as_u64().unwrap();
        let delivered = report["audit"]["delivered"].as_u64().unwrap();
        assert!(acknowledged > 150, "{text}");
        assert_eq!(delivered, acknowledged * 15, "{text}");
        let faults = [
            "lost",
            "duplicate",
            "reordered",
            "corrupt",
            "foreign",
            "undecodable",
        ];
        for fault in faults {
            assert_eq!(report["audit"][fault], 0, "{fault}: {text}");
        }
        assert_eq!(report["ends"]["faults"], serde_json::json!({}), "{text}");
        // The timeline is complete, including the last moments.
        let samples = report["timeline"]["samples"].as_array().unwrap();
        let sum = |name: &str| {
            samples
                .iter()
                .filter_map(|sample| sample[name].as_u64())
                .sum()
        };
        let (comments, posted): (u64, u64) = (sum("comments"), sum("acknowledged"));
        assert_eq!((comments, posted), (delivered, acknowledged), "{text}");
        let count = |name: &str| report["histograms"][name]["summary"]["count"].as_u64();
        for name in ["post_to_viewer", "post_to_viewer_beyond_window"] {
            assert_eq!(count(name), Some(delivered), "{name}: {text}");
        }
        for name in [
            "post_to_first_viewer",
            "post_to_last_viewer",
            "post_to_seal",
        ] {
            assert_eq!(count(name), Some(acknowledged), "{name}: {text}");
        }
        assert_eq!(count("connect"), Some(30), "{text}");
        let frames = report["total"]["frames"].as_u64();
        assert_eq!(count("seal_to_viewer"), frames, "{text}");
        let samples = report["timeline"]["samples"].as_array().unwrap();
        let of_samples = |of: fn(&Value) -> &Value| -> u64 {
            samples
                .iter()
                .map(|sample| of(sample).as_u64().unwrap())
                .sum()
        };
        assert_eq!(
            of_samples(|sample| &sample["comments"]),
            delivered,
            "{text}"
        );
        assert_eq!(
            of_samples(|sample| &sample["latency"]["count"]),
            delivered,
            "{text}"
        );
        assert_eq!(report["total"]["comments"], delivered, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_comment_is_lost_to_the_viewers_of_both_processes() {
    let double = Double::start(Fault::DropComment).await;
    let args = "run --viewers 30 --rooms 2 --duration-s 2 --settle-s 0 --drain-s 60 --rate 120 --processes 2";
    let ran = loadtest(&double, "dropped", args).await;
    assert_eq!(ran.code, 1, "{}", ran.text);
    assert!(
        ran.report["audit"]["lost"].as_u64() >= Some(30),
        "{}",
        ran.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_over_two_processes_brings_everybody_back() {
    let double = Double::start(Fault::None).await;
    let args = "storm --processes 2 --set viewers=60 --set duration_s=4 --set drain_s=60 --set rate=40 \
                --set storm_at_s=1 --set slo.last_back_s_max=60";
    let Ran { report, .. } = loadtest(&double, "storm", args).await;
    assert_eq!(report["audit"]["lost"], 0, "{report:#}");
    let storm = &report["events"][0];
    assert_eq!(
        (&storm["viewers"], &storm["back"]),
        (&60.into(), &60.into()),
        "{storm:#}"
    );
    assert!(storm["last_back_s"].as_f64() > Some(0.0), "{storm:#}");
    assert_eq!(report["returns"]["rejoined"], 60, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stalling_viewers_stall_in_every_process() {
    let double = Double::start(Fault::None).await;
    let args = "run --viewers 30 --duration-s 4 --settle-s 0 --drain-s 60 --rate 40 --processes 2 \
                --stall-viewers 6 --stall-after-s 2";
    let ran = loadtest(&double, "stall", args).await;
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert_eq!(ran.report["ends"]["stalled"]["open"], 6, "{}", ran.text);
    let stages = ran.report["latency"].as_array().unwrap();
    assert_eq!(stages.len(), 2, "{}", ran.text);
    for stage in stages {
        assert!(
            stage["each_viewer"]["count"].as_u64() > Some(0),
            "{stage:#}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_quiet_work_with_several_processes() {
    let double = Double::start(Fault::None).await;
    let quiet = "quiet --viewers 6 --posts 3 --every-ms 300 --processes 2";
    let ran = loadtest(&double, "quiet", quiet).await;
    assert_eq!(ran.report["each_viewer"]["count"], 18, "{}", ran.text);
    let ran = loadtest(
        &double,
        "idle",
        "idle --viewers 6 --settle-s 0 --processes 3",
    )
    .await;
    assert_eq!(
        (ran.code, &ran.report["ended"]),
        (0, &0.into()),
        "{}",
        ran.text
    );
    assert_eq!(ran.report["connect_latency"]["count"], 6, "{}", ran.text);
}

/// A run of ten minutes that has begun to post, and its child processes.
async fn long_run(double: &Double, more: &str) -> (Child, Vec<Pid>) {
    let args =
        format!("run --viewers 30 --duration-s 600 --settle-s 0 --rate 50 --processes 3 {more}");
    let child = command(double, &args).process_group(0).spawn().unwrap();
    let children = children_of(pid(&child), 3).await;
    double.posts_until(50).await;
    (child, children)
}

/// Waits for a process to exit and returns its output.
async fn output(child: Child) -> Output {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    output.expect("it still runs").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_ends_the_run_with_one_line() {
    let double = Double::start(Fault::None).await;
    let (child, children) = long_run(&double, "").await;
    kill_process(children[1], Signal::KILL).unwrap();
    let output = output(child).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let said: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("danmaku-loadtest: "))
        .collect();
    let expected = format!(
        "danmaku-loadtest: viewer process {}: ended early: signal: 9 (SIGKILL)",
        children[1].as_raw_nonzero()
    );
    assert_eq!(said, [expected.as_str()], "{text}");
    assert!(output.stdout.is_empty(), "{text}");
    all_have_ended(&children).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_end_when_their_parent_is_killed() {
    let double = Double::start(Fault::None).await;
    let (mut child, children) = long_run(&double, "").await;
    child.kill().await.unwrap();
    all_have_ended(&children).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_the_whole_group_still_gives_a_report() {
    for signal in [Signal::INT, Signal::HUP, Signal::TERM] {
        end_by(signal).await;
    }
}

/// Sends a signal to the whole process group, as a terminal or a supervisor does.
async fn end_by(signal: Signal) {
    let double = Double::start(Fault::None).await;
    let path = scratch("interrupted.json");
    let (child, children) = long_run(&double, &format!("--json {}", path.display())).await;
    kill_process_group(pid(&child), signal).unwrap();
    let output = output(child).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let report: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let _ = std::fs::remove_file(&path);
    assert_eq!(report["partial"], true, "{text}");
    let acknowledged = report["posts"]["acknowledged"].as_u64().unwrap();
    assert!(acknowledged > 0, "{text}");
    assert_eq!(report["audit"]["delivered"], acknowledged * 30, "{text}");
    all_have_ended(&children).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_work_with_several_processes() {
    let double = Double::start(Fault::None).await;
    // Lateness depends on the machine, and is not tested here.
    let common = "--processes 2 --set duration_s=4 --set drain_s=60 --set viewers=60 --set rate=40 \
                  --set late_ms=60000 --set slo.p99_beyond_window_ms=60000 \
                  --set slo.window_ms_max=60000 --set slo.lateness_p99_ms_max=60000";
    let run = async |name: &str, more: &str| {
        let args = format!("{name} {common} {more} --room-prefix {name}");
        let ran = loadtest(&double, name, &args).await;
        assert_eq!(ran.code, 0, "{}", ran.text);
        assert_eq!(ran.report["setup"]["processes"], 2, "{}", ran.text);
        ran.report
    };
    let (hot, many, churn, _) = tokio::join!(
        run("hot-room", "--set ramp_per_second=30"),
        run("many-rooms", "--set rooms=20"),
        run("churn", "--set churn_per_second=20"),
        run("slow-viewers", "--set slow_after_s=1"),
    );
    assert!(hot["audit"]["delivered"].as_u64() > Some(0), "{hot:#}");
    let rooms = many["rooms"].as_array().unwrap();
    let delivered = |of: &Value| of["audit"]["delivered"].as_u64().unwrap();
    let sum: u64 = rooms.iter().map(delivered).sum();
    assert_eq!(
        (delivered(&many), rooms.len() > 10),
        (sum, true),
        "{many:#}"
    );
    assert!(churn["returns"]["rejoined"].as_u64() > Some(0), "{churn:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_hold_more_viewers_than_one_may_open() {
    let double = Double::start(Fault::None).await;
    let run = async |processes: u32| {
        let script = format!(
            "ulimit -n 200; exec {} run --viewers 300 --duration-s 2 --settle-s 0 --drain-s 60 --rate 20 --processes {processes} \
             --url http://{}",
            env!("CARGO_BIN_EXE_danmaku-loadtest"),
            double.address
        );
        let output = Command::new("sh").args(["-c", &script]).output().await;
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = run(1).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("lower --viewers to 104, use --processes 3 or raise"),
        "{text}"
    );
    let (code, text) = run(3).await;
    assert_eq!(code, Some(0), "{text}");
}

/// Regression: a descriptor was reserved per room although HTTP posts need one per posting connection, so many rooms were
/// refused that would have fit, and many posting connections had no descriptor.
#[tokio::test(flavor = "multi_thread")]
async fn descriptors_are_reserved_for_posting_connections() {
    let double = Double::start(Fault::None).await;
    let run = async |more: &str| {
        let script = format!(
            "ulimit -n 300; exec {} run --duration-s 1 --settle-s 0 --drain-s 60 --rate 20 {more} --url http://{}",
            env!("CARGO_BIN_EXE_danmaku-loadtest"),
            double.address
        );
        let output = Command::new("sh").args(["-c", &script]).output().await;
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = run("--viewers 150 --rooms 150").await;
    assert_eq!(code, Some(0), "{text}");
    for (more, said) in [
        ("--rooms 150 --post-via ws", "lower --viewers to 86,"),
        ("--post-connections 256", "lower --post-connections"),
    ] {
        let (code, text) = run(&format!("--viewers 150 {more}")).await;
        assert_eq!(code, Some(2), "{more}: {text}");
        assert!(text.contains(said), "{more}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_settings_get_one_line_and_exit_code_2() {
    let double = Double::start(Fault::None).await;
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let viewers = allowed.maximum.unwrap() * 3;
    for (args, word) in [
        (format!("run --viewers {viewers}"), "use --processes 4"),
        (
            format!("run --processes 2 --viewers {viewers}"),
            "use --processes 4",
        ),
        (
            format!("storm --set viewers={viewers}"),
            "use --processes 4",
        ),
        (
            "run --processes 2 --viewers 100000000".to_owned(),
            "lower --viewers to",
        ),
        (
            "run --processes 2 --with-floor".to_owned(),
            "--with-floor works in one process only",
        ),
        ("run --processes 65".to_owned(), "--processes"),
        ("idle --processes 0".to_owned(), "--processes"),
    ] {
        let output = command(&double, &args).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2)
                && text.starts_with("danmaku-loadtest: ")
                && text.contains(word)
                && text.lines().count() == 1,
            "{args}: {text}"
        );
        assert!(output.stdout.is_empty(), "{args}");
    }
}
