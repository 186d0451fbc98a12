//! The harness against the real server, in short runs: what it drives is what it was made for, and not only its double.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use danmaku_server::config::ServeArgs;
use danmaku_server::tasks::Server;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The environment variable with the server's flags.
const VARIABLE: &str = "DANMAKU_LOADTEST_SERVER";
/// The test that serves.
const TEST: &str = "server_process";
/// A server that nobody stops ends by itself.
const LIFE: Duration = Duration::from_secs(180);
/// Limits that the load must not meet. All posts and viewers have one address.
const FLAGS: &str = "--shards 2 --posts-per-second-per-address 10000 --posts-per-second-per-address-burst 10000 \
     --posts-per-second-per-room 10000 --posts-per-second-per-room-burst 10000 --posts-per-second-per-connection 10000 \
     --posts-per-second-per-connection-burst 10000";
/// Lateness depends on the machine, and is not tested here.
const UNHURRIED: [&str; 6] = [
    "--late-ms=60000",
    "--drain-s=60",
    "--slo.p99-beyond-window-ms=60000",
    "--slo.window-ms-max=60000",
    "--slo.lateness-p99-ms-max=60000",
    "--slo.failed-posts-percent-max=100",
];

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Not a test: the process that the tests below start, which is the server.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the tests start it"]
async fn server_process() {
    let Ok(flags) = std::env::var(VARIABLE) else {
        return;
    };
    let flags = Flags::parse_from(["server"].into_iter().chain(flags.split(' ')));
    let server = Server::start(flags.serve.check(1024).unwrap()).unwrap();
    let mut terminated =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    // The test reads the address from this line; the frame of the test harness comes before it.
    eprintln!("listening on {}", server.address());
    let _ = tokio::time::timeout(LIFE, terminated.recv()).await;
    let _ = server.stop().await;
}

/// The server in a process of its own. Dropping it ends the process, or the last one that replaced it.
struct RealServer {
    url: String,
    start: String,
    first: Child,
    last_pid: u32,
}

impl RealServer {
    fn start(flags: &str) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut first = Command::new(&own)
            .args(["--exact", TEST, "--ignored", "--nocapture"])
            .env(VARIABLE, format!("{FLAGS} {flags} --listen 127.0.0.1:0"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(first.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("listening on ").map(str::to_owned)
        });
        let address = address.unwrap();
        Self {
            url: format!("http://{address}"),
            start: format!(
                "--start=env '{VARIABLE}={FLAGS} {flags} --listen {address}' '{}' --exact {TEST} --ignored --nocapture",
                own.display()
            ),
            last_pid: first.id(),
            first,
        }
    }

    /// Runs a command of the load test against it; returns its report when it passed.
    fn passes(&self, command: &str, settings: &[&str]) -> Value {
        let folder = TempDir::new().unwrap();
        let json = folder.path().join("report.json");
        let output = Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
            .args(command.split(' '))
            .args([
                "--url",
                &self.url,
                "--server-pid",
                &self.first.id().to_string(),
                "--json",
            ])
            .arg(&json)
            .args(settings)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert!(report["audit"]["delivered"].as_u64() > Some(0), "{text}");
        report
    }

    fn scenario(&mut self, name: &str, settings: &[&str]) -> Value {
        let report = self.passes(name, &[&UNHURRIED[..], settings].concat());
        if let Some(event) = report["events"].as_array().unwrap().last()
            && let Some(pid) = event["server_pid"].as_u64()
        {
            self.last_pid = u32::try_from(pid).unwrap();
        }
        report
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.last_pid).unwrap()).unwrap();
        let _ = kill_process(pid, Signal::KILL);
        let _ = self.first.wait();
    }
}

#[test]
fn a_run_passes_over_both_protocols_and_ways_to_post() {
    let server = RealServer::start("--window-ms 200");
    let run = "run --viewers 40 --rooms 2 --duration-s 2 --settle-s 0 --drain-s 60 --rate 60";
    for more in ["--post-via ws", "--protocol sse"] {
        let report = server.passes(&format!("{run} --room-prefix {} {more}", more.len()), &[]);
        let acknowledged = report["posts"]["acknowledged"].as_u64().unwrap();
        assert_eq!(
            report["audit"]["delivered"],
            20 * acknowledged,
            "{report:#}"
        );
        assert_eq!(report["server"]["source"], "process");
    }
}

/// Several shells or hosts: each audits its own posts and does not take those of the others for faults.
#[test]
fn several_commands_share_a_room() {
    let server = RealServer::start("--window-ms 200");
    let run = "run --viewers 20 --duration-s 3 --settle-s 1 --drain-s 60 --rate 40 --seed";
    let reports = std::thread::scope(|scope| {
        let runs = [1, 2].map(|seed| {
            let (server, command) = (&server, format!("{run} {seed}"));
            scope.spawn(move || server.passes(&command, &[]))
        });
        runs.map(|run| run.join().unwrap())
    });
    for report in reports {
        let acknowledged = report["posts"]["acknowledged"].as_u64().unwrap();
        assert_eq!(
            report["audit"]["delivered"],
            20 * acknowledged,
            "{report:#}"
        );
    }
}

#[test]
fn a_storm_resumes_every_viewer() {
    let mut server = RealServer::start("--window-ms 200");
    let report = server.scenario(
        "storm",
        &["--viewers=40", "--duration-s=3", "--storm-at-s=1"],
    );
    assert_eq!(report["returns"]["resumed"], 40, "{report:#}");
}

/// A server with a data file is stopped, and killed again and again: nothing acknowledged is missing afterwards.
#[test]
fn a_store_survives_a_restart_and_crashes() {
    let folder = TempDir::new().unwrap();
    let data = format!("--window-ms 200 --data {}", folder.path().display());
    for (name, settings) in [
        ("restart", ["--restart-at-s=1", "--duration-s=3"]),
        ("crash", ["--crashes=3", "--duration-s=4"]),
    ] {
        let mut server = RealServer::start(&data);
        let start = server.start.clone();
        let common = ["--viewers=40", "--slo.unreplayed-percent-max=0", &start];
        let report = server.scenario(name, &[&common[..], &settings].concat());
        let events = report["events"].as_array().unwrap();
        assert_eq!(events.len(), if name == "crash" { 3 } else { 1 });
        let returns = &report["returns"];
        assert_eq!(returns["resumed"], 40 * events.len() as u64, "{report:#}");
        assert_eq!(
            (&returns["renumbered"], &returns["unreplayed"]),
            (&0.into(), &0.into())
        );
    }
}
