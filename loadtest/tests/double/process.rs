//! The double as its own process, which can be stopped by a signal and restarted: the test binary runs one of its own tests,
//! which serves if an environment variable says how. Its state is in a directory.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use danmaku_wire::{CommentLimits, Fragment, Posted, parse_posted};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;

use super::room::{Positions, Room, unix_ms};
use super::{Fault, PATIENCE, Server};

/// How a double starts: what it remembers of the previous process, or another behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Everything.
    Durable,
    /// Nothing: it starts a new epoch, and says so.
    Memory,
    /// Everything but the last comment it acknowledged.
    LosesLast,
    /// Nothing, but it keeps the epoch.
    KeepsEpochOnly,
    /// It runs but does not listen.
    NeverListens,
    /// It ignores SIGTERM.
    IgnoresTerm,
    /// On SIGTERM it stops listening at once, but takes its time to exit.
    Lingers,
}

/// A double in its own process. Dropping this ends the process and those that replaced it, and deletes the directory.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    directory: PathBuf,
    first: Child,
}

/// A viewer's return: the position it had and the one it was given, both with their epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Return {
    pub(crate) was: (u64, u64),
    pub(crate) is: (u64, u64),
}

/// The double's state on disk.
#[derive(Debug)]
pub(super) struct Records {
    log: Mutex<File>,
    returns: Mutex<File>,
}

/// The environment variable with manner, port and directory.
const VARIABLE: &str = "DANMAKU_DOUBLE";
/// The test that serves.
const TEST: &str = "double_process";
/// A process that is never stopped exits by itself.
const LIFE: Duration = Duration::from_secs(180);
/// How long [`Manner::Lingers`] takes to end.
pub(crate) const LINGER: Duration = Duration::from_secs(4);

impl Manner {
    const ALL: [Self; 7] = [
        Self::Durable,
        Self::Memory,
        Self::LosesLast,
        Self::KeepsEpochOnly,
        Self::NeverListens,
        Self::IgnoresTerm,
        Self::Lingers,
    ];
}

impl Site {
    /// Starts the first process and waits until it listens.
    pub(crate) async fn start(manner: Manner) -> Self {
        let name = format!("danmaku-double-{}-{}", std::process::id(), unix_ms());
        let directory = (0..)
            .map(|number| std::env::temp_dir().join(format!("{name}-{number}")))
            .find(|path| std::fs::create_dir(path).is_ok())
            .unwrap();
        let first = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--ignored", "--nocapture"])
            .env(VARIABLE, format!("{manner:?} 0 {}", directory.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut site = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            directory,
            first,
        };
        let began = Instant::now();
        loop {
            let port = std::fs::read_to_string(site.directory.join("port"));
            if let Ok(port) = port.unwrap_or_default().parse() {
                site.address.set_port(port);
                return site;
            }
            assert!(began.elapsed() < PATIENCE, "the double does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The id of the first process.
    pub(crate) fn pid(&self) -> u32 {
        self.first.id()
    }

    /// A shell command that restarts it on the same port.
    pub(crate) fn start_again(&self, manner: Manner) -> String {
        format!(
            "env '{VARIABLE}={manner:?} {} {}' '{}' --exact {TEST} --ignored --nocapture",
            self.address.port(),
            self.directory.display(),
            std::env::current_exe().unwrap().display()
        )
    }

    /// The ids of all processes so far.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let pids = std::fs::read_to_string(self.directory.join("pids"));
        let pids = pids.unwrap_or_default();
        pids.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// All viewers that came back, in time order.
    pub(crate) fn returns(&self) -> Vec<Return> {
        let returns = std::fs::read_to_string(self.directory.join("returns")).unwrap();
        let of = |line: &str| {
            let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
            Return {
                was: (numbers[0], numbers[1]),
                is: (numbers[2], numbers[3]),
            }
        };
        returns.lines().map(of).collect()
    }

    /// How many comments the current process has in its epoch.
    pub(crate) fn accepted(&self) -> u64 {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap();
        let comments = log
            .lines()
            .rev()
            .take_while(|line| !line.starts_with(EPOCH_LINE));
        comments.count() as u64
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for pid in self.pids() {
            // Its number may belong to another process by now.
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if !String::from_utf8_lossy(&command).contains(TEST) {
                continue;
            }
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = (self.first.kill(), self.first.wait());
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Serves if the environment says so, and returns at once if not, as in a run of all tests.
pub(crate) async fn serve_if_told() {
    let Ok(how) = std::env::var(VARIABLE) else {
        return;
    };
    let mut words = how.splitn(3, ' ');
    let mut word = || words.next().unwrap();
    let (manner, port) = (word(), word());
    let manner = Manner::ALL
        .into_iter()
        .find(|known| format!("{known:?}") == manner)
        .unwrap();
    let directory = PathBuf::from(word());
    let _ = tokio::time::timeout(LIFE, serve(manner, port.parse().unwrap(), &directory)).await;
}

async fn serve(manner: Manner, port: u16, directory: &Path) {
    let mut pids = appended(&directory.join("pids"));
    writeln!(pids, "{}", std::process::id()).unwrap();
    if manner == Manner::NeverListens {
        return std::future::pending().await;
    }
    // The signal has no default effect while this receiver exists.
    let mut signals = [Manner::IgnoresTerm, Manner::Lingers]
        .contains(&manner)
        .then(|| {
            let kind = tokio::signal::unix::SignalKind::terminate();
            tokio::signal::unix::signal(kind).unwrap()
        });
    let server = remember(manner, directory);
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (part, whole) = (directory.join("port.part"), directory.join("port"));
    std::fs::write(&part, listener.local_addr().unwrap().port().to_string()).unwrap();
    std::fs::rename(part, whole).unwrap();
    let serving = server.run(listener);
    match (&mut signals, manner) {
        (Some(signals), Manner::Lingers) => {
            tokio::select! {
                () = serving => {}
                _ = signals.recv() => {}
            }
            tokio::time::sleep(LINGER).await;
        }
        _ => serving.await,
    }
}

/// The start of a log line that begins an epoch.
const EPOCH_LINE: &str = "epoch ";

/// A server with what it remembers of the previous process.
fn remember(manner: Manner, directory: &Path) -> Server {
    let path = directory.join("log");
    let log = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lines: Vec<&str> = log.lines().collect();
    let line = format!("{EPOCH_LINE}{}", unix_ms());
    match manner {
        Manner::LosesLast if lines.len() > 1 => drop(lines.pop()),
        Manner::KeepsEpochOnly => lines.truncate(1),
        _ => {}
    }
    if lines.is_empty() || manner == Manner::Memory {
        lines = vec![&line];
    }
    let epoch: u64 = lines[0].strip_prefix(EPOCH_LINE).unwrap().parse().unwrap();
    let mut comments: HashMap<String, Vec<Fragment>> = HashMap::new();
    for line in &lines[1..] {
        let (room, json) = line.split_once('\t').unwrap();
        let posted = parse_posted(&mut json.as_bytes().to_vec(), &CommentLimits::default());
        let Ok(Posted::One(comment)) = posted else {
            panic!("the log has a comment that is none: {json}");
        };
        let room = comments.entry(room.to_owned()).or_default();
        room.push(comment.fragment());
    }
    let mut log = File::create(path).unwrap();
    for line in &lines {
        writeln!(log, "{line}").unwrap();
    }
    let rooms = comments
        .into_iter()
        .map(|(name, comments)| (name, Room::with(epoch, Positions::Dense, comments)));
    Server {
        fault: Fault::None,
        positions: Positions::Dense,
        epoch,
        rooms: Arc::new(Mutex::new(rooms.collect())),
        made: Arc::default(),
        posts: Arc::default(),
        asked: Arc::default(),
        gone: Arc::default(),
        records: Some(Arc::new(Records {
            log: Mutex::new(log),
            returns: Mutex::new(appended(&directory.join("returns"))),
        })),
    }
}

impl Records {
    /// Records an accepted comment, before it is acknowledged.
    pub(super) fn accepted(&self, room: &str, fragment: &Fragment) {
        let json = std::str::from_utf8(fragment.as_bytes()).unwrap();
        // In one write, so that a killed process leaves only whole lines.
        let line = format!("{room}\t{{{json}}}\n");
        self.log.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }

    pub(super) fn returned(&self, was: (u64, u64), is: (u64, u64)) {
        let line = format!("{} {} {} {}\n", was.0, was.1, is.0, is.1);
        let mut returns = self.returns.lock().unwrap();
        returns.write_all(line.as_bytes()).unwrap();
    }
}

fn appended(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap()
}
