//! A few connections that read, on the runtime's threads for blocking work.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use danmaku_store::{Reader, StoreError};
use tokio::sync::Semaphore;

use super::Table;
use crate::entry::Unavailable;

/// Connections that read; more reads than these wait for their turn.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Reader>>,
    places: Arc<Semaphore>,
    table: Arc<Table>,
}

impl Readers {
    pub(super) fn open(file: &Path, table: Arc<Table>) -> Result<Self, StoreError> {
        let idle = (0..READERS)
            .map(|_| Reader::open(file))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            idle: Mutex::new(idle),
            places: Arc::new(Semaphore::new(READERS)),
            table,
        })
    }

    /// Runs `read` with a connection. It must end by itself: nothing can cancel it.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| Unavailable)?;
        let readers = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let reader = readers.idle().pop();
            let Some(reader) = reader else {
                return Err(Unavailable);
            };
            let done = read(&reader).map_err(|error| {
                readers.table.fail(&error);
                Unavailable
            });
            readers.idle().push(reader);
            drop(place);
            done
        });
        // A runtime that ends does not run it.
        done.await.unwrap_or(Err(Unavailable))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads at a time.
const READERS: usize = 4;
