//! Owns the file that rooms' logs are kept in: its folder, schema, statements and retention.
//!
//! Everything here blocks: the caller decides on which thread. There is one [`Writer`] per folder, and any number of
//! [`Reader`]s beside it. The file knows positions, times and bytes; what an entry means is up to the log.
//!
//! ```text
//! { writer, backup } → { retention, reader } → schema → { folder, error, row }
//! ```

mod backup;
mod error;
mod folder;
mod reader;
mod retention;
mod row;
mod schema;
mod writer;

pub use backup::{BackupError, back_up};
pub use error::{CommitError, OpenError, StoreError};
pub use folder::Folder;
pub use reader::Reader;
pub use retention::{Retention, Trimmed};
pub use row::{Answer, RoomKey, RoomRow, Row};
pub use writer::{Group, NewRoom, Writer};
