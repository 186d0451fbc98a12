//! Owns the client commands: `watch` a room, `post` to it.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU64;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use danmaku_client::{
    Access, Batch, ClientError, Closed, Comment, Connect, Connection, Event, Gap, HttpClient,
    NewComment, RoomEvent, RoomEventKind, ServerAddress,
};
use danmaku_wire::{Encoding, Mode, Position, RoomId, Seq};
use serde_json::{Value, json};

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

    /// Who you are
    #[arg(long, env = "DANMAKU_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Print one JSON object per line: comments, retractions, gaps
    #[arg(long)]
    pub json: bool,

    /// Stop after this many comments; without it, watch until the server closes
    #[arg(long, value_name = "N")]
    pub count: Option<NonZeroU64>,
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

    /// Who you are
    #[arg(long, env = "DANMAKU_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

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
    /// The connection ended without a word.
    #[error("connection lost")]
    Lost,
}

/// Watches a room until the server closes the connection or `count` comments were shown.
///
/// # Errors
/// [`CliError`].
pub async fn watch(args: WatchArgs) -> Result<(), CliError> {
    let mut connect = Connect::new(args.server.clone(), args.room.clone());
    connect.encoding = args.encoding;
    connect.since = args.since;
    connect.access = access(args.token.as_deref())?;
    connect.history = (args.history > 0).then_some(args.history);
    let mut connection = Connection::connect(&connect).await?;
    let mut screen = Screen::new(&args);
    let mut position = None;
    loop {
        let event = match connection.next().await {
            Ok(event) => event,
            Err(error) => {
                screen.end(position)?;
                return Err(error.into());
            }
        };
        position = after(position, &event);
        if let (Event::Joined(joined), Some(since)) = (&event, args.since)
            && !joined.resumed
        {
            screen.note(&format!("cannot resume from {since} without a gap"))?;
        }
        if let Event::Closed(closed) = &event {
            screen.end(position)?;
            return Err(match closed.code {
                Closed::ABNORMAL => CliError::Lost,
                code => CliError::Closed {
                    code,
                    reason: closed.reason.clone(),
                },
            });
        }
        match screen.show(&event) {
            // The reader has seen enough, as `head` does.
            Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(connection.close().await?);
            }
            shown => shown?,
        }
        if screen.is_done() {
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
    let access = access(args.token.as_deref())?;
    let mut http = HttpClient::new(args.server).with_access(access);
    let posted = http.post_comments(&args.room, &[comment]).await?;
    let mut out = io::stdout().lock();
    for id in posted.ids {
        writeln!(out, "{}:{}", posted.epoch.value(), id.value())?;
    }
    Ok(())
}

pub(crate) fn access(token: Option<&str>) -> Result<Access, ClientError> {
    let access = Access::default();
    match token {
        Some(token) => Ok(access.with_token(token)?),
        None => Ok(access),
    }
}

/// Where a viewer at `position` is after an event.
fn after(position: Option<Position>, event: &Event) -> Option<Position> {
    match event {
        Event::Joined(joined) => Some(joined.position()),
        Event::Batch(Batch { seq, .. }) | Event::Gap(Gap { seq, .. }) => {
            position.map(|position| Position {
                seq: *seq,
                ..position
            })
        }
        _ => position,
    }
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
    /// Comments still to show; `None` for no limit.
    comments_left: Option<u64>,
}

impl Screen {
    fn new(args: &WatchArgs) -> Self {
        Self {
            json: args.json,
            colors: io::stdout().is_terminal() && !args.json,
            comments_left: args.count.map(NonZeroU64::get),
        }
    }

    /// Whether the requested number of comments was shown.
    fn is_done(&self) -> bool {
        self.comments_left == Some(0)
    }

    /// A line for humans, kept apart from output for programs.
    fn note(&self, line: &str) -> Result<(), CliError> {
        if self.json {
            writeln!(io::stderr(), "danmaku-server: {line}")?;
        } else {
            writeln!(io::stdout(), "-- {line}")?;
        }
        Ok(())
    }

    /// How to go on from where the connection ended.
    fn end(&self, position: Option<Position>) -> Result<(), CliError> {
        match position {
            Some(position) => self.note(&format!("continue with --since {position}")),
            None => Ok(()),
        }
    }

    fn show(&mut self, event: &Event) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        if self.json {
            for line in self.json_lines(event) {
                writeln!(out, "{line}")?;
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

    /// The next comments of a batch, up to the requested number.
    fn next_of<'a>(&mut self, batch: &'a Batch) -> &'a [Comment] {
        let Some(left) = &mut self.comments_left else {
            return &batch.comments;
        };
        let shown = usize::try_from(*left)
            .map_or(batch.comments.len(), |left| left.min(batch.comments.len()));
        *left -= shown as u64;
        &batch.comments[..shown]
    }

    /// One object per comment, retraction, gap, and count of comments left out.
    fn json_lines(&mut self, event: &Event) -> Vec<Value> {
        match event {
            Event::Batch(batch) => {
                let comments = self.next_of(batch).iter().map(comment_json);
                let mut lines: Vec<_> = comments.collect();
                lines.extend(batch.events.iter().filter_map(retraction_json));
                if batch.shed > 0 {
                    lines.push(json!({"type": "shed", "count": batch.shed}));
                }
                lines
            }
            Event::Gap(gap) => {
                let told =
                    json!({"type": "gap", "after": gap.after.value(), "seq": gap.seq.value()});
                let retractions = gap.events.iter().filter_map(retraction_json);
                std::iter::once(told).chain(retractions).collect()
            }
            _ => Vec::new(),
        }
    }

    fn batch(&mut self, out: &mut impl Write, batch: &Batch) -> io::Result<()> {
        for comment in self.next_of(batch) {
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

fn comment_json(comment: &Comment) -> Value {
    json!({
        "type": "comment",
        "id": comment.id.value(),
        "text": comment.text,
        "user": comment.user,
        "name": comment.name,
        "mode": comment.mode.as_str(),
        "color": comment.color,
        "size": comment.size,
        "role": comment.role.as_deref().unwrap_or("viewer"),
        "reply_to": comment.reply_to.map(Seq::value),
        "data": comment.data,
    })
}

fn retraction_json(event: &RoomEvent) -> Option<Value> {
    match &event.kind {
        RoomEventKind::Retract { ids } => {
            let ids: Vec<_> = ids.iter().map(|id| id.value()).collect();
            Some(json!({"type": "retract", "id": event.id.value(), "ids": ids}))
        }
        RoomEventKind::Other(_) => None,
    }
}

pub(crate) fn parse_room(text: &str) -> Result<RoomId, String> {
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

/// Where the commands expect a server.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
