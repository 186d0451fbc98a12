//! Encodes batches without a server: bytes per comment and cost per batch, of made-up chat or of a recording.
//!
//! `cargo run --release -p danmaku-benches --bin seal -- --corpus FILE --speed 1,10`

#![expect(clippy::print_stdout, reason = "it is there to print")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use danmaku_chat::{RecordingError, Sealing, Stretch};
use danmaku_wire::Dialect;

#[derive(Parser)]
#[command(about = "Encodes batches without a server: bytes per comment and cost per batch")]
struct Args {
    /// A recording in JSON Lines; without it chat is generated
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Seconds to skip at the start of the recording
    #[arg(long, default_value_t = 0, value_name = "S")]
    skip_s: u64,
    /// Seconds of chat to use; default: all of a recording, or an hour of generated chat
    #[arg(long, value_name = "S")]
    take_s: Option<u64>,
    /// Playback speeds to compare
    #[arg(
        long,
        default_value = "1,10",
        value_name = "LIST",
        value_delimiter = ','
    )]
    speed: Vec<f64>,
    /// The window in milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    window_ms: u64,
}

fn main() -> ExitCode {
    match seal(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn seal(args: &Args) -> Result<(), RecordingError> {
    let take = args.take_s.map(Duration::from_secs);
    let lines = match &args.corpus {
        Some(path) => {
            let skip = Duration::from_secs(args.skip_s);
            let take = take.unwrap_or(Duration::MAX);
            danmaku_chat::read(path, Stretch { skip, take })?
        }
        None => danmaku_chat::chat(1, 10.0, take.unwrap_or(Duration::from_secs(3600))),
    };
    println!(
        "{:>6} {:13} {:>9} {:>9} {:>11} {:>13} {:>13} {:>8}",
        "speed",
        "form",
        "batches",
        "comments",
        "bytes/frame",
        "bytes/comment",
        "without heads",
        "µs/batch"
    );
    for speed in &args.speed {
        let at = |at: Duration| {
            Duration::try_from_secs_f64(at.as_secs_f64() / speed).unwrap_or(Duration::MAX)
        };
        let posts = lines.iter().map(|line| (at(line.at), &line.comment));
        let sealing = Sealing::of(&[posts.collect()], Duration::from_millis(args.window_ms));
        for dialect in Dialect::ALL {
            println!(
                "{speed:>6} {:13} {:>9} {:>9} {:>11} {:>13.1} {:>13.1} {:>8.1}",
                dialect.name(),
                sealing.batches,
                sealing.comments,
                sealing.frame_bytes(dialect),
                sealing.comment_bytes(dialect),
                sealing.payload_bytes(dialect),
                sealing.batch_micros(dialect)
            );
        }
    }
    Ok(())
}
