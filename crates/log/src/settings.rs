//! What can be set per room, and for all rooms.

use serde::{Deserialize, Serialize};

/// What can be set per room. A member that is `None` is as in the defaults of all rooms, and there it is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether nobody can post.
    pub closed: Option<bool>,
    /// Seconds between two comments of one poster; 0 for no slow mode.
    pub slow_mode_s: Option<u32>,
    /// Unicode scalar values in a comment's text.
    pub text_scalars_max: Option<u32>,
    /// Whether texts must be nothing but emoji.
    pub emoji_only: Option<bool>,
    /// Whether texts must have no links.
    pub no_links: Option<bool>,
    /// Percent of a text's characters that may be neither letters, digits, spaces nor emoji.
    pub special_percent_max: Option<u8>,
    /// Seconds within which no two comments may say the same; 0 if they may.
    pub unique_s: Option<u32>,
    /// Whether only members can post.
    pub members_only: Option<bool>,
    /// With `members_only`: seconds that somebody must have been a member.
    pub member_age_s: Option<u32>,
}

impl Settings {
    /// What holds in a room with these settings of its own.
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        Self {
            closed: self.closed.or(defaults.closed),
            slow_mode_s: self.slow_mode_s.or(defaults.slow_mode_s),
            text_scalars_max: self.text_scalars_max.or(defaults.text_scalars_max),
            emoji_only: self.emoji_only.or(defaults.emoji_only),
            no_links: self.no_links.or(defaults.no_links),
            special_percent_max: self.special_percent_max.or(defaults.special_percent_max),
            unique_s: self.unique_s.or(defaults.unique_s),
            members_only: self.members_only.or(defaults.members_only),
            member_age_s: self.member_age_s.or(defaults.member_age_s),
        }
    }

    /// What a member can be, in words; `None` if there is no such member.
    #[must_use]
    pub fn range(field: &str) -> Option<&'static str> {
        match field {
            "closed" | "emoji_only" | "no_links" | "members_only" => Some("true or false"),
            "slow_mode_s" => Some("0, or a whole number from 3 to 120"),
            "text_scalars_max" => Some("a whole number from 1 to 200"),
            "special_percent_max" => Some("a whole number from 0 to 100"),
            "unique_s" => Some("a whole number from 0 to 3600"),
            "member_age_s" => Some("a whole number from 0 to 315360000"),
            _ => None,
        }
    }

    /// # Errors
    /// The first member that is out of its [`Settings::range`].
    pub fn check(&self) -> Result<(), OutOfRange> {
        let refuse = |field| Err(OutOfRange { field });
        if let Some(1..SLOW_MODE_S_MIN | SLOW_MODE_S_END..) = self.slow_mode_s {
            return refuse("slow_mode_s");
        }
        if let Some(0 | TEXT_SCALARS_END..) = self.text_scalars_max {
            return refuse("text_scalars_max");
        }
        if let Some(101..) = self.special_percent_max {
            return refuse("special_percent_max");
        }
        if let Some(UNIQUE_S_END..) = self.unique_s {
            return refuse("unique_s");
        }
        if let Some(MEMBER_AGE_S_END..) = self.member_age_s {
            return refuse("member_age_s");
        }
        Ok(())
    }

    pub(crate) fn to_text(self) -> String {
        serde_json::to_string(&self).expect("invariant: settings have string keys only")
    }

    /// The settings as [`Settings::to_text`] wrote them. The schema's version keeps out those of newer versions.
    pub(crate) fn from_text(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

/// A setting that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is out of range")]
pub struct OutOfRange {
    /// The member.
    pub field: &'static str,
}

/// The shortest slow mode, in seconds.
const SLOW_MODE_S_MIN: u32 = 3;

/// The longest slow mode, in seconds.
pub const SLOW_MODE_S_MAX: u32 = 120;

const SLOW_MODE_S_END: u32 = SLOW_MODE_S_MAX + 1;

/// One more than a comment's text can have anyway.
const TEXT_SCALARS_END: u32 = 201;

/// One more than the longest time that texts are remembered, in seconds.
const UNIQUE_S_END: u32 = 3_601;

/// One more than ten years.
const MEMBER_AGE_S_END: u32 = 315_360_001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_has_a_range() {
        let settings = serde_json::to_value(Settings::default()).unwrap();
        for field in settings.as_object().unwrap().keys() {
            assert!(Settings::range(field).is_some(), "{field}");
        }
    }

    #[test]
    fn ranges() {
        #[track_caller]
        fn check(text: &str, field: Option<&str>) {
            let settings: Settings = serde_json::from_str(text).unwrap();
            let found = settings.check().err().map(|error| error.field);
            assert_eq!(found, field, "{text}");
            assert_eq!(Settings::from_text(&settings.to_text()), settings);
            assert!(field.is_none_or(|field| Settings::range(field).is_some()));
        }
        check("{}", None);
        check(r#"{"closed":true,"slow_mode_s":0}"#, None);
        check(r#"{"slow_mode_s":3,"text_scalars_max":1}"#, None);
        check(r#"{"slow_mode_s":120,"text_scalars_max":200}"#, None);
        check(r#"{"slow_mode_s":2}"#, Some("slow_mode_s"));
        check(r#"{"slow_mode_s":121}"#, Some("slow_mode_s"));
        check(r#"{"text_scalars_max":0}"#, Some("text_scalars_max"));
        check(r#"{"text_scalars_max":201}"#, Some("text_scalars_max"));
        check(r#"{"emoji_only":true,"no_links":false}"#, None);
        check(r#"{"special_percent_max":0,"unique_s":3600}"#, None);
        check(
            r#"{"special_percent_max":101}"#,
            Some("special_percent_max"),
        );
        check(r#"{"unique_s":3601}"#, Some("unique_s"));
        check(r#"{"member_age_s":315360001}"#, Some("member_age_s"));
    }
}
