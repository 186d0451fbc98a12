//! Owns a room's mailbox: messages that wait for its actor, in order.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// A bounded mailbox that holds no memory while it is empty: a channel of tokio takes 1.2 KB, and every room has one.
/// Its owner tells the receiver that there is something.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    places: Semaphore,
    waiting: Mutex<VecDeque<T>>,
}

/// The room's actor has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomEnded;

impl<T> Mailbox<T> {
    /// An empty mailbox for at most `len_max` messages.
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            places: Semaphore::new(len_max),
            waiting: Mutex::default(),
        }
    }

    /// Adds a message, when there is space. Senders get theirs in turn.
    pub(super) async fn send(&self, msg: T) -> Result<(), RoomEnded> {
        let place = self.places.acquire().await.map_err(|_| RoomEnded)?;
        let mut waiting = self.waiting();
        // Checked under the lock: whatever is added before the close is dropped by it.
        if self.places.is_closed() {
            return Err(RoomEnded);
        }
        waiting.push_back(msg);
        place.forget();
        Ok(())
    }

    /// The oldest message.
    pub(super) fn next(&self) -> Option<T> {
        let mut waiting = self.waiting();
        let msg = waiting.pop_front()?;
        if waiting.is_empty() {
            *waiting = VecDeque::new();
        }
        self.places.add_permits(1);
        Some(msg)
    }

    /// Drops all messages, and refuses those that still come.
    pub(super) fn close(&self) {
        self.places.close();
        let dropped = std::mem::take(&mut *self.waiting());
        // Outside the lock: a message may wake its sender.
        drop(dropped);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn senders_wait_in_turn_for_space_and_learn_of_the_end() {
        let mailbox = Mailbox::new(2);
        let took = async {
            let mut took = Vec::new();
            while took.len() < 5 {
                took.extend(mailbox.next());
                tokio::task::yield_now().await;
            }
            took
        };
        let sends = async {
            let send = |msg| mailbox.send(msg);
            tokio::join!(send(1), send(2), send(3), send(4), send(5))
        };
        let (took, _) = tokio::join!(took, sends);
        assert_eq!(took, [1, 2, 3, 4, 5]);

        assert_eq!(mailbox.send(6).await, Ok(()));
        assert_eq!(mailbox.send(7).await, Ok(()));
        let (waiting, ()) = tokio::join!(mailbox.send(8), async { mailbox.close() });
        assert_eq!(waiting, Err(RoomEnded));
        assert_eq!(mailbox.next(), None, "dropped");
        assert_eq!(mailbox.send(9).await, Err(RoomEnded));
    }
}
