//! What can be set per room, and for all rooms.

use serde::{Deserialize, Serialize};

/// What can be set per room. A member that is `None` is as in the defaults of all rooms, and there it is off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether nobody can post.
    pub closed: Option<bool>,
    /// Seconds between two comments of one poster; 0 for no slow mode.
    pub slow_mode_s: Option<u32>,
    /// Unicode scalar values in a comment's text.
    pub text_scalars_max: Option<u32>,
}

impl Settings {
    /// What holds in a room with these settings of its own.
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        Self {
            closed: self.closed.or(defaults.closed),
            slow_mode_s: self.slow_mode_s.or(defaults.slow_mode_s),
            text_scalars_max: self.text_scalars_max.or(defaults.text_scalars_max),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("invariant: settings have string keys only")
    }

    /// The settings as [`Settings::to_text`] wrote them. The schema's version keeps out those of newer versions.
    pub(crate) fn from_text(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}
