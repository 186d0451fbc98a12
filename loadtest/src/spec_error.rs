//! Why a specification cannot be run.

use std::io;
use std::path::PathBuf;

use danmaku_wire::{Encoding, RoomIdError};

/// Why a specification cannot be run: one line that names the field.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file that cannot be run.
    #[error("{}: {source}", path.display())]
    Within {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<SpecError>,
    },
    /// A file that is no TOML.
    #[error("line {line}: {}", source.message())]
    Syntax {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: toml::de::Error,
    },
    /// A file for a scenario that does not exist.
    #[error("`scenario` must be one of {names}")]
    NoScenario {
        /// Those that do.
        names: String,
    },
    /// A field that does not exist, or has another type.
    #[error("{}", one_line(.0.message()))]
    Field(toml::de::Error),
    /// A number outside of its range.
    #[error("`{field}` must be {range}, not {value}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it may be.
        range: String,
        /// What it is.
        value: f64,
    },
    /// Two fields that contradict each other, or one that another needs.
    #[error("{0}")]
    Contradiction(&'static str),
    /// An encoding that the protocol does not have.
    #[error("`encodings`: there is no {encoding} with the protocol {protocol}")]
    Encoding {
        /// The encoding.
        encoding: Encoding,
        /// The protocol.
        protocol: &'static str,
    },
    /// Rooms cannot be named like this.
    #[error("`room_prefix`: {0}")]
    RoomPrefix(RoomIdError),
    /// More posts than fit in memory.
    #[error("{posts:.0} posts are over the limit of {most:.0}")]
    Posts {
        /// How many there would be.
        posts: f64,
        /// How many there may be.
        most: f64,
    },
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
