//! Records without a file.

use rusqlite::Connection;

use crate::error::StoreError;
use crate::record::{Audit, Change, Changed};
use crate::records::Records;
use crate::schema;

/// Records that are kept for the life of the process: the same tables, in at most 64 MiB of memory.
#[derive(Debug)]
pub struct Memory {
    connection: Connection,
}

impl Memory {
    /// Without any records.
    ///
    /// # Errors
    /// [`StoreError`] when there is no memory.
    pub fn new() -> Result<Self, StoreError> {
        Ok(Self {
            connection: schema::open_in_memory()?,
        })
    }

    /// What is kept.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records(&self.connection)
    }

    /// Makes a change, and adds to the audit trail if it was made. Forgets the oldest samples.
    ///
    /// # Errors
    /// [`StoreError`] when there is no room for it.
    pub fn change(
        &mut self,
        change: &Change,
        audit: Option<&Audit>,
    ) -> Result<Changed, StoreError> {
        let transaction = self.connection.transaction()?;
        let records = Records(&transaction);
        let changed = records.change(change, audit)?;
        if matches!(change, Change::AddSamples(_)) {
            records.forget_samples(0, Some(SAMPLES_MAX))?;
        }
        transaction.commit()?;
        Ok(changed)
    }

    /// Forgets records that have ended; whether there were any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_ended(&mut self, now_ms: u64) -> Result<bool, StoreError> {
        self.records().forget_ended(now_ms)
    }
}

/// Samples kept of all rooms together: one room's of eleven days, or a thousand rooms' of a quarter of an hour.
const SAMPLES_MAX: u32 = 100_000;
