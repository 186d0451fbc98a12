//! A disk that fills up and gets space again, over and over.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use danmaku_client::{ClientError, Event, NewComment, Refusal};
use danmaku_wire::{Encoding, RoomId};
use hyper::{Method, StatusCode};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;

use crate::show::{Crowd, Outcome, Show, read_log};
use crate::support::{self, PATIENCE, Server};
use crate::{flags, scale};

/// A server, and what its data is on. Neither needs more rights than any user has.
enum Disk {
    /// A file system of a few megabytes, which only the server sees; a file of ours fills it.
    Small { server: Server, ballast: PathBuf },
    /// A limit on the size of the server's files, which fails with another error than a full disk.
    Limited { server: Server },
}

impl Disk {
    /// `None` where users may not mount anything.
    fn small(folder: &TempDir, flags: &[&str], log: &Path) -> Option<Self> {
        let mount = format!(
            "mount -t tmpfs -o size=64m tmpfs {} && exec 2>{} || exit",
            folder.path().display(),
            log.display()
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        let mut try_it = Command::new("unshare");
        try_it.args(unshare.get_args()).arg(&mount);
        let may = try_it.stderr(Stdio::null()).status();
        if !may.is_ok_and(|status| status.success()) {
            return None;
        }
        let server = Server::start_in(unshare, &mount, flags);
        // What the server sees at this path.
        let ballast = format!("/proc/{}/root{}", server.pid(), folder.path().display());
        Some(Self::Small {
            server,
            ballast: Path::new(&ballast).join("ballast"),
        })
    }

    fn limited(flags: &[&str], log: &Path) -> Self {
        let setup = format!("exec 2>{}", log.display());
        let server = Server::start_after(&setup, flags);
        Self::Limited { server }
    }

    fn server(&self) -> &Server {
        match self {
            Self::Small { server, .. } | Self::Limited { server } => server,
        }
    }

    fn fill(&self) {
        match self {
            Self::Small { ballast, .. } => {
                let mut ballast = File::create(ballast).unwrap();
                let full = loop {
                    if let Err(error) = ballast.write_all(&[1; 4 << 10]) {
                        break error;
                    }
                };
                assert_eq!(full.kind(), ErrorKind::StorageFull);
            }
            Self::Limited { server } => limit_files(server, Some(64 << 10)),
        }
    }

    fn free(&self) {
        match self {
            Self::Small { ballast, .. } => fs::remove_file(ballast).unwrap(),
            Self::Limited { server } => limit_files(server, getrlimit(Resource::Fsize).current),
        }
    }
}

fn limit_files(server: &Server, bytes: Option<u64>) {
    let pid = Pid::from_raw(server.pid().try_into().unwrap());
    let limit = Rlimit {
        current: bytes,
        ..getrlimit(Resource::Fsize)
    };
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

/// Waits until a post gets what `wanted` says.
async fn post_until(server: &Server, wanted: impl Fn(Result<(), &Refusal>) -> bool) {
    let start = Instant::now();
    loop {
        let mut http = server.http();
        // Not in the room of the show, which counts its comments.
        let other = RoomId::parse("other").unwrap();
        let posted = http.post_comments(&other, &[NewComment::new("x")]).await;
        let is_wanted = match &posted {
            Ok(_) => wanted(Ok(())),
            Err(ClientError::Refused(refusal)) => wanted(Err(refusal)),
            Err(error) => panic!("{error}"),
        };
        if is_wanted {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "posting does not change");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Watching goes on: a viewer gets in, and is shown a like.
async fn watch(server: &Server) {
    let mut viewer = server.watch("r", Encoding::Identity).await;
    let path = "/v1/rooms/r/likes";
    let like = Bytes::from_static(br#"{"count":1}"#);
    let liked = server.http().send(Method::POST, path, like).await;
    assert_eq!(liked.unwrap().status, StatusCode::NO_CONTENT);
    loop {
        let event = tokio::time::timeout(PATIENCE, viewer.next()).await;
        if let Event::Batch(batch) = event.expect("nothing is shown").unwrap()
            && batch.likes > 0
        {
            return;
        }
    }
}

async fn ready(server: &Server) -> (StatusCode, String) {
    let mut http = server.http();
    let answer = http.send(Method::GET, "/readyz", Bytes::new()).await;
    let answer = answer.unwrap();
    (
        answer.status,
        String::from_utf8_lossy(&answer.body).into_owned(),
    )
}

async fn nothing_is_lost_on(
    disk: &Disk,
    log: &Path,
    (episodes, crowd): (u32, Crowd),
) -> (Outcome, u64) {
    let server = disk.server();
    let show = Show::begin(server.server_address(), crowd);
    let mut resident_bytes = 0;
    for episode in 0..episodes {
        tokio::time::sleep(Duration::from_millis(200)).await;
        disk.fill();
        post_until(server, |posted| {
            posted.is_err_and(|it| (it.status, &*it.code) == (503, "unavailable"))
        })
        .await;
        let (status, body) = ready(server).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("full") || body.contains("disk"), "{body}");
        watch(server).await;
        disk.free();
        post_until(server, |posted| posted.is_ok()).await;
        if episode == 0 {
            resident_bytes = support::resident_bytes(server).await;
        }
    }
    let grown = support::resident_bytes(server)
        .await
        .saturating_sub(resident_bytes);
    assert!(grown < GROWN_BYTES_MAX, "{grown} bytes more");
    let outcome = show.end().await;
    let lines = fs::read_to_string(log).unwrap();
    let told = lines.matches("cannot write the data file").count();
    assert_eq!(told, episodes as usize, "{lines}");
    assert_eq!(ready(server).await.0, StatusCode::OK);
    (outcome, grown)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_disk_fills_up() {
    let scale = scale("DANMAKU_FULL_DISKS", 2);
    let folder = TempDir::new().unwrap();
    let logs = TempDir::new().unwrap();
    let log = logs.path().join("log");
    match Disk::small(&folder, &flags(&folder), &log) {
        Some(disk) => {
            let (outcome, grown) = nothing_is_lost_on(&disk, &log, scale).await;
            println!("small file system: {outcome}; {grown} bytes more");
        }
        None => println!("no user may mount a file system here"),
    }
    let disk = Disk::limited(&flags(&folder), &log);
    let (outcome, grown) = nothing_is_lost_on(&disk, &log, scale).await;
    println!("limited files: {outcome}; {grown} bytes more");
    // And it is on the disk.
    drop(disk);
    let server = Server::start(&flags(&folder));
    assert_eq!(read_log(server.http()).await, outcome.log);
}

/// What a server may hold in the end that it did not hold after the first time.
const GROWN_BYTES_MAX: u64 = 64 << 20;
