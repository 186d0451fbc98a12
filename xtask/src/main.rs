//! The one front door for what cargo alone cannot do: `cargo xtask COMMAND`.

mod campaign;
mod tools;

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use tools::{Tools, target};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = arguments
        .split_first()
        .map_or(("", &[][..]), |(command, rest)| (command.as_str(), rest));
    let outcome = match command {
        "test" => test(rest),
        "web" => web(rest),
        "screenshots" => screenshots(),
        "tools" => Tools::install(&root()).map(|_| ()),
        "" | "help" | "-h" | "--help" => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        other => Err(Failure(format!(
            "there is no command `{other}`; see `cargo xtask help`"
        ))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Runs all tests, or the part named by the first argument.
fn test(arguments: &[String]) -> Result<(), Failure> {
    let root = root();
    match arguments.split_first() {
        Some((part, rest)) if part == "--quick" => quick(&root, rest),
        Some((part, names)) if part == "--long" => campaign::run_all(&root, names),
        _ => everything(&root, arguments),
    }
}

/// Installs what the tests need, then runs all of them.
fn everything(root: &Path, rest: &[String]) -> Result<(), Failure> {
    let tools = Tools::install(root)?;
    let mut cargo = cargo(root);
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    // What runs with `--include-ignored` needs the tools installed above.
    cargo.args(rest).args(["--", "--include-ignored"]);
    cargo.envs(tools.environment());
    run(&mut cargo)
}

/// Runs the tests of `web/`, or those whose names contain the arguments.
fn web(names: &[String]) -> Result<(), Failure> {
    let root = root();
    let tools = Tools::install(&root)?;
    let mut cargo = cargo(&root);
    cargo.args(["test", "-p", "danmaku-server", "--test", "web", "--"]);
    cargo.args(["--include-ignored", "--nocapture"]).args(names);
    cargo.envs(tools.environment());
    run(&mut cargo)
}

/// Takes the pictures of the page again.
fn screenshots() -> Result<(), Failure> {
    let root = root();
    let tools = Tools::install(&root)?;
    run(cargo(&root).args(["build", "-p", "danmaku-server"]))?;
    let server = target(&root).join("debug/danmaku-server");
    let mut node = Command::new(tools.node());
    node.arg(root.join("web/test/screenshots.js"));
    node.envs(tools.environment());
    run(node.env("DANMAKU_TEST_SERVER", server))
}

/// Unit tests, and the tests that need neither sockets nor processes.
fn quick(root: &Path, rest: &[String]) -> Result<(), Failure> {
    let mut cargo = cargo(root);
    cargo.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
    for target in QUICK {
        cargo.args(["--test", target]);
    }
    run(cargo.args(rest))
}

/// Test files that run in memory and on a simulated clock.
const QUICK: [&str; 10] = [
    "allocation",
    "boundaries",
    "decoder",
    "frames",
    "fuzz_targets",
    "inbound",
    "room",
    "shard",
    "shard_records",
    "simulation",
];

/// A one-line error message.
#[derive(Debug)]
struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The workspace's root folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("invariant: xtask is a folder of the workspace")
        .to_owned()
}

fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// Runs a command to its end and shows its output.
fn run(command: &mut Command) -> Result<(), Failure> {
    let line = shown(command);
    say(&format!("$ {line}\n"));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure(format!("`{line}` ended with {status}"))),
        Err(error) => Err(Failure(format!("cannot run `{line}`: {error}"))),
    }
}

fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[expect(clippy::print_stdout, reason = "a command-line tool speaks here")]
fn say(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "a command-line tool complains here")]
fn complain(failure: &Failure) {
    eprintln!("xtask: {failure}");
}

const HELP: &str = "\
cargo xtask COMMAND

  test [CARGO TEST ARGUMENTS]
      Install what the tests need, then run every test. Takes up to 30 minutes
      on 2 cores.
  test --quick [CARGO TEST ARGUMENTS]
      Run only the unit tests and the simulations: no sockets, no processes,
      nothing to install. Takes less than 3 minutes after the build.
  test --long [CAMPAIGN]...
      Run the campaigns, or only those named. Each repeats a test of the normal
      run with far more input, and prints the command it runs:
        rooms       the simulation of a room and its log, 5,000 seeds
        shards      the simulation of rooms, shards and viewers, 1,000 seeds
        properties  the property tests, 20,000 cases each
        parsers     the fuzz targets, 5,000,000 inputs each
        durability  100 kills of a server with 1,000 viewers and 50 posters
        full-disk   the same with a disk that fills up, 50 times each on a small
                    file system and with a limit on file sizes
        slow-disk   the same with commits of 500 ms, and a flood of arrays
        joins       how long an honest join takes beside a storm of joins
  web [NAME]...
      Run only the tests of the browser SDK and the pages in `web/`, or those
      whose names contain NAME.
  screenshots
      Take the pictures in docs/images again, from the demo room. Install the
      Debian packages fonts-noto-cjk and fonts-noto-color-emoji first.
  tools
      Only install what the tests need: the packages of `web/package.json` and
      Python's `websockets` into the build folder. Chromium, nginx, ffmpeg, Node,
      npm, Python and pip come from Debian packages if they are missing and this
      user may install packages.
";
