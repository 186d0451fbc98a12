//! Owns `danmaku-server export`, which writes a room's comments to standard output.

use std::io::{self, Write};

use clap::Args;
use danmaku_client::{HttpClient, ServerAddress};
use danmaku_wire::RoomId;

use crate::cli::{CliError, DEFAULT_SERVER, access, parse_room};
use crate::recording::RecordingFormat;

/// The flags of `danmaku-server export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The room to export
    #[arg(value_parser = parse_room)]
    pub room: RoomId,

    /// The server's address
    #[arg(long, value_name = "URL", default_value = DEFAULT_SERVER)]
    pub server: ServerAddress,

    /// Who you are
    #[arg(long, env = "DANMAKU_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// What to write
    #[arg(long, value_enum, default_value = "jsonl")]
    pub format: RecordingFormat,

    /// The recorded stream to export, as the room's list of streams numbers them; the last one if there is any
    #[arg(long, value_name = "ID", conflicts_with = "start")]
    pub stream: Option<u64>,

    /// When the video began, in milliseconds since 1970. Without it and without streams, with the first comment
    #[arg(long, value_name = "MS")]
    pub start: Option<u64>,

    /// The time of the first comments, in milliseconds since 1970
    #[arg(long, value_name = "MS")]
    pub from: Option<u64>,

    /// The time to stop before, in milliseconds since 1970
    #[arg(long, value_name = "MS")]
    pub to: Option<u64>,
}

impl ExportArgs {
    fn path(&self) -> String {
        let mut path = format!(
            "/v1/rooms/{}/export?format={}",
            self.room,
            self.format.name()
        );
        for (key, value) in [
            ("stream", self.stream),
            ("start", self.start),
            ("from", self.from),
            ("to", self.to),
        ] {
            if let Some(value) = value {
                path += &format!("&{key}={value}");
            }
        }
        path
    }
}

/// Writes a room's comments to standard output, without retracted ones.
///
/// # Errors
/// [`CliError`]; then the output is not complete.
pub async fn export(args: ExportArgs) -> Result<(), CliError> {
    let path = args.path();
    let http = HttpClient::new(args.server).with_access(access(args.token.as_deref())?);
    let mut download = http.download(&path).await?;
    let mut out = io::stdout().lock();
    while let Some(bytes) = download.next().await? {
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}
