//! Owns the gate that posts pass through: shutdown closes it and waits for the posts inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Open until the server stops. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StopGate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    closed: AtomicBool,
    inside: AtomicUsize,
}

/// A post in progress; it leaves the gate when dropped.
#[derive(Debug)]
pub struct Inside(StopGate);

impl StopGate {
    /// Lets a post in; `None` once the gate is closed.
    #[must_use]
    pub fn enter(&self) -> Option<Inside> {
        self.0.inside.fetch_add(1, Ordering::SeqCst);
        let inside = Inside(self.clone());
        // Checked after counting: either `emptied` sees this post, or this post sees the stop.
        (!self.is_closed()).then_some(inside)
    }

    /// Closes the gate: nothing new is accepted.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }

    /// Whether the server is stopping.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst)
    }

    /// Waits until no post is in progress.
    pub async fn emptied(&self) {
        while self.0.inside.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How often shutdown checks whether the last post is answered.
const POLL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_waits_for_those_inside() {
        let gate = StopGate::default();
        let inside = gate.enter().unwrap();
        gate.close();
        assert!(gate.enter().is_none());
        let waits = tokio::time::timeout(Duration::from_secs(1), gate.emptied());
        assert!(waits.await.is_err());
        drop(inside);
        gate.emptied().await;
    }
}
