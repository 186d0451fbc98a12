//! What a test does before each commit.

use std::fmt;
use std::sync::OnceLock;

/// Set once, called by the writer's thread.
#[derive(Default)]
pub(super) struct Hook(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl Hook {
    pub(super) fn set(&self, hook: impl Fn() + Send + Sync + 'static) {
        let set = self.0.set(Box::new(hook));
        assert!(set.is_ok(), "the hook is set once");
    }

    pub(super) fn call(&self) {
        if let Some(hook) = self.0.get() {
            hook();
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hook")
    }
}
