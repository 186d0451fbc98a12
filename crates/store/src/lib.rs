//! Owns the file that rooms' logs and records are kept in: its folder, schema, statements and retention.
//!
//! Everything here blocks: the caller decides on which thread. There is one [`Writer`] per folder, and any number of
//! [`Reader`]s beside it. The file knows positions, times and bytes; what an entry means is up to the log.
//!
//! ```text
//! { writer, backup, memory } → { retention, reader } → records → schema → { folder, error, record, row }
//! ```

mod backup;
mod error;
mod folder;
mod memory;
mod reader;
mod record;
mod records;
mod retention;
mod row;
mod schema;
mod writer;

pub use backup::{BackupError, back_up};
pub use error::{CommitError, OpenError, StoreError};
pub use folder::Folder;
pub use memory::Memory;
pub use reader::Reader;
pub use record::{
    Audit, AuditQuery, Change, ChangeRefusal, Changed, Held, Pin, Revocation, Revoked, Sample,
    Sanction, SanctionKind, SettingsRow, Stream, Subject,
};
pub use records::Records;
pub use retention::{Retention, Trimmed};
pub use row::{Answer, RoomKey, RoomRow, Row};
pub use writer::{Group, NewRoom, Writer};
