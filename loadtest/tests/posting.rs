//! Posting to a server that does not answer: the run ends in time, and its report accounts for every post.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

#[expect(dead_code, reason = "the other test files use the other faults")]
mod double;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use double::{Double, Fault, PATIENCE, WELCOME_TAKES};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

struct Ran {
    child: Child,
    report: PathBuf,
    double: Double,
}

impl Ran {
    async fn start(fault: Fault, name: &str, args: &str) -> Self {
        let double = Double::start(fault).await;
        let report = std::env::temp_dir().join(format!(
            "danmaku-loadtest-posting-{}-{name}.json",
            std::process::id()
        ));
        let child = Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
            .args("run --viewers 6 --settle-s 0 --drain-s 1".split(' '))
            .args(args.split(' '))
            .args(["--url", &format!("http://{}", double.address), "--json"])
            .arg(&report)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            child,
            report,
            double,
        }
    }

    /// Sends Ctrl-C and returns the report's posts.
    async fn interrupted(self) -> Posts {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.posts().await
    }

    /// Waits for the end and returns the report's posts. Their causes of failure show which deadline ended them.
    async fn posts(mut self) -> Posts {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        assert!(ended.is_ok(), "it still runs after {PATIENCE:?}");
        let report: Value = serde_json::from_slice(&std::fs::read(&self.report).unwrap()).unwrap();
        let _ = std::fs::remove_file(&self.report);
        Posts(report["posts"].clone())
    }
}

struct Posts(Value);

impl Posts {
    fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap()
    }

    fn failed(&self, cause: &str) -> u64 {
        self.0["failed"][cause].as_u64().unwrap_or_default()
    }

    /// Checks that every post was acknowledged or failed for one of these causes.
    fn add_up(&self, causes: &[&str]) {
        let failed: u64 = causes.iter().map(|cause| self.failed(cause)).sum();
        let due = self.number("due");
        assert_eq!(due, self.number("acknowledged") + failed, "{:#}", self.0);
    }
}

const UNANSWERED: &str = "no answer within 10 s after the last post was due";
const UNSENT: &str = "not sent: no connection was free";
const UNREAD: &str = "the server has not read for 10 s";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_posts_are_never_answered_ends_with_a_report() {
    let args = "--duration-s 2 --rate 500 --post-connections 4";
    let ran = Ran::start(Fault::AnswerNoPost, "http", args).await;
    let posts = ran.posts().await;
    posts.add_up(&["no answer within 10000 ms", UNANSWERED, UNSENT]);
    assert_eq!(posts.number("acknowledged"), 0);
    assert!(posts.number("due") > 500, "{:#}", posts.0);
    assert!(posts.failed(UNSENT) > 400, "{:#}", posts.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_posts_in_progress() {
    let args = "--duration-s 600 --rate 50 --post-connections 4";
    let ran = Ran::start(Fault::AnswerNoPost, "interrupt", args).await;
    ran.double.posts_until(4).await;
    let posts = ran.interrupted().await;
    posts.add_up(&["interrupted", UNSENT]);
    assert_eq!(posts.failed("interrupted"), 4, "{:#}", posts.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_read_its_posters_ends_with_a_report() {
    // More than the buffers in between hold.
    let args = "--duration-s 3 --rate 30000 --post-via ws";
    let ran = Ran::start(Fault::ReadNothing, "unread", args).await;
    let posts = ran.posts().await;
    posts.add_up(&[UNREAD, UNANSWERED, UNSENT]);
    assert_eq!(posts.number("acknowledged"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_a_post_that_is_not_read() {
    let args = "--duration-s 30 --rate 30000 --post-via ws";
    let ran = Ran::start(Fault::ReadNothing, "unread-interrupt", args).await;
    ran.double.posts_until(1).await;
    // By now the buffers in between are usually full, and no post has waited for the 10 s it may take.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let posts = ran.interrupted().await;
    posts.add_up(&["interrupted", UNSENT]);
}

/// Regression: posting connections were opened one after the other while posts came due, which made posts late.
#[tokio::test(flavor = "multi_thread")]
async fn posts_do_not_wait_for_connections_to_be_opened() {
    let args = "--duration-s 2 --rate 50 --post-via ws --rooms 6";
    let ran = Ran::start(Fault::WelcomesLate, "late", args).await;
    let posts = ran.posts().await;
    posts.add_up(&[]);
    // Opened one after the other, the six connections take six times as long as one.
    let lateness_ms = posts.0["lateness"]["max_ms"].as_f64();
    let several_ms = 4.0 * WELCOME_TAKES.as_secs_f64() * 1e3;
    assert!(lateness_ms < Some(several_ms), "{:#}", posts.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_not_wait_for_unanswered_posts_forever() {
    let args = "--duration-s 2 --rate 50 --post-via ws";
    let ran = Ran::start(Fault::AnswerSomePosts, "some", args).await;
    let posts = ran.posts().await;
    posts.add_up(&[UNANSWERED]);
    assert!(posts.number("acknowledged") > 50, "{:#}", posts.0);
    assert!(posts.failed(UNANSWERED) > 3, "{:#}", posts.0);
}
