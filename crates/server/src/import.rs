//! Owns `danmaku-server import`, which puts a file of comments into a room of a stopped server.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use danmaku_log::{EntryBody, Importer, OpenError};
use danmaku_wire::{Epoch, RoomId, Seq};

use crate::cli::parse_room;
use crate::clock::Clock;
use crate::recording::{BadLine, ReadComment, Recording, RecordingFormat, Time};

/// The flags of `danmaku-server import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The room, which is created if needed
    #[arg(value_parser = parse_room)]
    pub room: RoomId,

    /// The file
    pub file: PathBuf,

    /// The data folder of a stopped server
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,

    /// What the file is; without it, its extension tells: jsonl, xml, ass, or json for dandanplay
    #[arg(long, value_enum)]
    pub format: Option<RecordingFormat>,

    /// When the video began, in milliseconds since 1970; without it, the room's last stream. JSON Lines have the times of their
    /// comments, and usually this one
    #[arg(long, value_name = "MS")]
    pub start: Option<u64>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is longer than what is read at once.
    #[error("{} has more than {FILE_BYTES_MAX} bytes: split it", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// The extension tells no format.
    #[error("cannot tell the format of {}: give --format", file.display())]
    UnknownFormat {
        /// The file.
        file: PathBuf,
    },
    /// A line is malformed.
    #[error("{}, {line}; nothing was imported", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line.
        line: BadLine,
    },
    /// The times of the file are relative to a video.
    #[error("neither the file nor the room says when the video began: give --start")]
    NoStart,
    /// A comment's time has not come yet.
    #[error("{}, line {line}: the time is in the future; nothing was imported", file.display())]
    Future {
        /// The file.
        file: PathBuf,
        /// Its line.
        line: usize,
    },
    /// The room has later entries, and a log's times never go back.
    #[error(
        "the room has entries up to {last_ms}, later than the file's first at {first_ms}: import into another room"
    )]
    Later {
        /// Log time of the room's last entry, Unix time in milliseconds.
        last_ms: u64,
        /// The first comment's, Unix time in milliseconds.
        first_ms: u64,
    },
    /// The data file does not take it.
    #[error(transparent)]
    Commit(#[from] danmaku_log::ImportError),
    /// Writing to the terminal failed.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

/// Adds the comments of a file to a room: all of them, or none.
///
/// # Errors
/// [`ImportError`].
pub fn import(args: &ImportArgs) -> Result<(), ImportError> {
    let file = || args.file.clone();
    let extension = args.file.extension().and_then(|e| e.to_str());
    let format = args.format;
    let format = format.or_else(|| RecordingFormat::from_extension(extension?));
    let format = format.ok_or_else(|| ImportError::UnknownFormat { file: file() })?;
    let bytes = read(&args.file)?;
    let recording = Recording::read(format, &bytes);
    let recording = recording.map_err(|line| ImportError::Line { file: file(), line })?;
    drop(bytes);
    let importer = Importer::open(&args.data, args.room.clone())?;
    let start_ms = args.start.or(recording.start_ms);
    let from_ms = start_ms.or(importer.stream_start_ms());
    let mut comments = timed(recording.comments, from_ms)?;
    let now_ms = Clock::start().now().unix_ms;
    if let Some((_, comment)) = comments.iter().find(|(at_ms, _)| *at_ms > now_ms) {
        let line = comment.line;
        return Err(ImportError::Future { file: file(), line });
    }
    // A log's times never decrease; what has the same time stays in order.
    comments.sort_by_key(|&(at_ms, _)| at_ms);
    let last_ms = importer.last_ms();
    if let Some(&(first_ms, _)) = comments.first()
        && first_ms < last_ms
    {
        return Err(ImportError::Later { last_ms, first_ms });
    }
    let (first, count) = (importer.first(), comments.len());
    if count > 0 {
        importer.commit(Epoch::new(now_ms), start_ms, entries(comments, first))?;
    }
    let plural = if count == 1 { "" } else { "s" };
    let mut out = io::stdout().lock();
    let left_out = recording.left_out;
    let said =
        writeln!(out, "imported {count} comment{plural} into {}", args.room).and_then(|()| {
            if left_out > 0 {
                writeln!(out, "left out {left_out} that are not plain text")?;
            }
            out.flush()
        });
    said.map_err(ImportError::Output)
}

fn read(path: &Path) -> Result<Vec<u8>, ImportError> {
    let failed = |source| ImportError::File {
        file: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut file = file.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ImportError::TooLong {
            file: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// The comments with their log times.
fn timed(
    comments: Vec<ReadComment>,
    start_ms: Option<u64>,
) -> Result<Vec<(u64, ReadComment)>, ImportError> {
    let at_ms = |time| -> Result<u64, ImportError> {
        match time {
            Time::Unix(at_ms) => Ok(at_ms),
            Time::Video(time_ms) => {
                let start_ms = start_ms.ok_or(ImportError::NoStart)?;
                Ok(start_ms.saturating_add(time_ms))
            }
        }
    };
    comments
        .into_iter()
        .map(|comment| Ok((at_ms(comment.time)?, comment)))
        .collect()
}

/// The comments as entries from `first` on. Replies follow what they reply to; those to a comment that is not in the file
/// become comments without one.
fn entries(
    comments: Vec<(u64, ReadComment)>,
    first: Seq,
) -> impl Iterator<Item = (u64, EntryBody)> {
    let positions = (0..).map(move |index| first.plus(index));
    let ids = comments.iter().map(|(_, comment)| comment.id);
    let renamed: HashMap<Seq, Seq> = ids
        .zip(positions)
        .filter_map(|(id, seq)| Some((id?, seq)))
        .collect();
    comments.into_iter().map(move |(at_ms, read)| {
        let mut comment = read.comment;
        let replied = comment.reply_to.and_then(|id| renamed.get(&id));
        comment.reply_to = replied.copied();
        let body = EntryBody::Comment {
            priority: comment.priority(),
            fragment: comment.fragment(),
        };
        (at_ms, body)
    })
}

/// The longest file, which is held in memory: about 5 million comments.
const FILE_BYTES_MAX: u64 = 1 << 30;
