//! Owns the client commands: `watch` a room, `post` to it.

use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use danmaku_client::{
    Batch, ClientError, Comment, Connect, Connection, Event, HttpClient, NewComment, RoomEvent,
    RoomEventKind, ServerAddress,
};
use danmaku_wire::{Encoding, Mode, Position, RoomId};

/// The flags of `danmaku-server watch`.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// The room to watch
    #[arg(value_parser = parse_room)]
    pub room: RoomId,

    /// The server's address
    #[arg(long, value_name = "URL", default_value = DEFAULT_SERVER)]
    pub server: ServerAddress,

    /// How batches are encoded: identity, gzip or deflate
    #[arg(long, value_name = "NAME", default_value = "deflate", value_parser = parse_encoding)]
    pub encoding: Encoding,

    /// Start after this position
    #[arg(long, value_name = "EPOCH:SEQ", value_parser = parse_position)]
    pub since: Option<Position>,

    /// Start with this many of the last comments
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub history: u32,

    /// Print one JSON object per comment, one per line
    #[arg(long)]
    pub json: bool,

    /// Exit after this many comments; 0 means never
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub count: u64,
}

/// The flags of `danmaku-server post`.
#[derive(Args, Clone, Debug)]
pub struct PostArgs {
    /// The room to post to
    #[arg(value_parser = parse_room)]
    pub room: RoomId,

    /// The comment's text
    pub text: String,

    /// The server's address
    #[arg(long, value_name = "URL", default_value = DEFAULT_SERVER)]
    pub server: ServerAddress,

    /// The name to show
    #[arg(long)]
    pub name: Option<String>,

    /// Where to show the comment
    #[arg(long, value_enum, default_value = "scroll")]
    pub mode: ModeArg,

    /// Colour as RRGGBB
    #[arg(long, value_name = "RRGGBB", value_parser = parse_color)]
    pub color: Option<u32>,
}

/// See [`Mode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Scrolls across the video
    Scroll,
    /// Fixed at the top
    Top,
    /// Fixed at the bottom
    Bottom,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The server was unreachable or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Writing to the terminal failed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// The server closed the connection.
    #[error("closed by the server: {code} {reason}")]
    Closed {
        /// The close code.
        code: u16,
        /// The reason that came with it.
        reason: String,
    },
}

/// Watches a room until the server closes the connection or `count` comments were shown.
///
/// # Errors
/// [`CliError`].
pub async fn watch(args: WatchArgs) -> Result<(), CliError> {
    let mut connect = Connect::new(args.server.clone(), args.room.clone());
    connect.encoding = args.encoding;
    connect.since = args.since;
    connect.history = (args.history > 0).then_some(args.history);
    let mut connection = Connection::connect(&connect).await?;
    let mut screen = Screen::new(&args);
    loop {
        let event = connection.next().await?;
        if let Event::Closed(closed) = &event {
            return Err(CliError::Closed {
                code: closed.code,
                reason: closed.reason.clone(),
            });
        }
        screen.show(&event)?;
        if args.count > 0 && screen.comments >= args.count {
            return Ok(connection.close().await?);
        }
    }
}

/// Posts one comment and prints its position.
///
/// # Errors
/// [`CliError`].
pub async fn post(args: PostArgs) -> Result<(), CliError> {
    let mut comment = NewComment::new(args.text);
    comment.name = args.name;
    comment.mode = match args.mode {
        ModeArg::Scroll => None,
        ModeArg::Top => Some(Mode::Top),
        ModeArg::Bottom => Some(Mode::Bottom),
    };
    comment.color = args.color;
    let posted = HttpClient::new(args.server)
        .post_comments(&args.room, &[comment])
        .await?;
    let mut out = io::stdout().lock();
    for id in posted.ids {
        writeln!(out, "{}:{}", posted.epoch.value(), id.value())?;
    }
    Ok(())
}

fn retractions(out: &mut impl Write, events: &[RoomEvent]) -> io::Result<()> {
    for event in events {
        if let RoomEventKind::Retract { ids } = &event.kind {
            for id in ids {
                writeln!(out, "-- comment {id} was retracted")?;
            }
        }
    }
    Ok(())
}

/// The terminal of `watch`.
#[derive(Debug)]
struct Screen {
    json: bool,
    colors: bool,
    comments: u64,
}

impl Screen {
    fn new(args: &WatchArgs) -> Self {
        Self {
            json: args.json,
            colors: io::stdout().is_terminal() && !args.json,
            comments: 0,
        }
    }

    fn show(&mut self, event: &Event) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        if let Event::Batch(batch) = event {
            self.comments += batch.comments.len() as u64;
        }
        if self.json {
            if let Event::Batch(batch) = event {
                for comment in &batch.comments {
                    writeln!(out, "{}", comment_json(comment))?;
                }
            }
            return Ok(out.flush()?);
        }
        match event {
            Event::Joined(joined) => writeln!(
                out,
                "-- room {} at {}:{}, {} watching, {} ms windows",
                joined.room,
                joined.epoch.value(),
                joined.seq.value(),
                joined.viewers,
                joined.window_ms,
            )?,
            Event::Batch(batch) => self.batch(&mut out, batch)?,
            Event::Gap(gap) => {
                writeln!(
                    out,
                    "-- missed everything after {} up to {}",
                    gap.after, gap.seq
                )?;
                retractions(&mut out, &gap.events)?;
            }
            Event::Closing(closing) => writeln!(
                out,
                "-- the server is shutting down; reconnect in {} ms",
                closing.reconnect_after_ms
            )?,
            Event::Error(error) => writeln!(out, "-- {}: {}", error.code, error.message)?,
            Event::Ack(_) | Event::Other(_) | Event::Closed(_) => {}
        }
        Ok(out.flush()?)
    }

    fn batch(&self, out: &mut impl Write, batch: &Batch) -> io::Result<()> {
        for comment in &batch.comments {
            self.comment(out, comment)?;
        }
        retractions(out, &batch.events)?;
        if batch.shed > 0 {
            writeln!(out, "-- {} more shed", batch.shed)?;
        }
        if batch.likes > 0 {
            writeln!(out, "-- {} likes", batch.likes)?;
        }
        Ok(())
    }

    fn comment(&self, out: &mut impl Write, comment: &Comment) -> io::Result<()> {
        let id = comment.id.value();
        let name = comment
            .name
            .as_deref()
            .or(comment.user.as_deref())
            .unwrap_or("anonymous");
        let place = match comment.mode {
            Mode::Scroll => "",
            Mode::Top => " [top]",
            Mode::Bottom => " [bottom]",
        };
        let text = &comment.text;
        if self.colors {
            let [_, r, g, b] = comment.color.to_be_bytes();
            writeln!(
                out,
                "{id:>6} {name}{place}: \x1b[38;2;{r};{g};{b}m{text}\x1b[0m"
            )
        } else {
            writeln!(out, "{id:>6} {name}{place}: {text}")
        }
    }
}

fn comment_json(comment: &Comment) -> serde_json::Value {
    serde_json::json!({
        "id": comment.id.value(),
        "text": comment.text,
        "user": comment.user,
        "name": comment.name,
        "mode": comment.mode.as_str(),
        "color": comment.color,
        "size": comment.size,
        "role": comment.role,
    })
}

fn parse_room(text: &str) -> Result<RoomId, String> {
    RoomId::parse(text).map_err(|error| error.to_string())
}

fn parse_encoding(text: &str) -> Result<Encoding, String> {
    Encoding::from_str(text).map_err(|error| error.to_string())
}

fn parse_position(text: &str) -> Result<Position, String> {
    Position::from_str(text).map_err(|error| error.to_string())
}

fn parse_color(text: &str) -> Result<u32, String> {
    let digits = text.trim_start_matches('#');
    u32::from_str_radix(digits, 16)
        .ok()
        .filter(|_| digits.len() == 6)
        .ok_or_else(|| "a colour is six hexadecimal digits, such as ff8800".to_owned())
}

const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
