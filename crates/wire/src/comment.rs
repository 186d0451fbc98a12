//! One comment, and the JSON fragment it becomes exactly once.

use std::fmt;

use bytes::Bytes;

use crate::data::CommentData;
use crate::escape::{escape_into, integer_into};
use crate::ids::Seq;
use crate::limits::{COLOR_MAX, FONT_SIZE_MAX, FONT_SIZE_MIN};
use crate::tape::{Value, with_document};
use crate::text::{CommentText, DisplayName, UserId};

/// A checked comment: no value of this type is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Who posted it, according to the poster.
    pub user: Option<UserId>,
    /// The name to show for the poster.
    pub name: Option<DisplayName>,
    /// Its text.
    pub text: CommentText,
    /// Where it is shown.
    pub mode: Mode,
    /// The colour of its text.
    pub color: Color,
    /// The size of its text.
    pub size: FontSize,
    /// The poster's role in this room. Only the server assigns roles.
    pub role: Role,
    /// The id of the comment it replies to.
    pub reply_to: Option<Seq>,
    /// Application data, passed on unchanged.
    pub data: Option<CommentData>,
}

impl Comment {
    /// A comment with defaults for everything but its text.
    #[must_use]
    pub fn new(text: CommentText) -> Self {
        Self {
            user: None,
            name: None,
            text,
            mode: Mode::default(),
            color: Color::default(),
            size: FontSize::default(),
            role: Role::default(),
            reply_to: None,
            data: None,
        }
    }

    /// Escapes the comment into the JSON members that every batch with it will hold.
    #[must_use]
    pub fn fragment(&self) -> Fragment {
        // Keys and numbers take less than 128 bytes; texts rarely need more than that for escapes.
        let strings = self.text.as_str().len()
            + self.user.as_ref().map_or(0, |user| user.as_str().len())
            + self.name.as_ref().map_or(0, |name| name.as_str().len())
            + self.data.as_ref().map_or(0, |data| data.as_json().len());
        let mut out = Vec::with_capacity(strings + 128);
        if let Some(user) = &self.user {
            out.extend_from_slice(b"\"user\":");
            escape_into(&mut out, user.as_str());
            out.push(b',');
        }
        if let Some(name) = &self.name {
            out.extend_from_slice(b"\"name\":");
            escape_into(&mut out, name.as_str());
            out.push(b',');
        }
        out.extend_from_slice(b"\"text\":");
        escape_into(&mut out, self.text.as_str());
        if self.mode != Mode::default() {
            out.extend_from_slice(b",\"mode\":\"");
            out.extend_from_slice(self.mode.as_str().as_bytes());
            out.push(b'"');
        }
        if self.color != Color::default() {
            out.extend_from_slice(b",\"color\":");
            integer_into(&mut out, u64::from(self.color.value()));
        }
        if self.size != FontSize::default() {
            out.extend_from_slice(b",\"size\":");
            integer_into(&mut out, u64::from(self.size.value()));
        }
        if self.role != Role::default() {
            out.extend_from_slice(b",\"role\":\"");
            out.extend_from_slice(self.role.as_str().as_bytes());
            out.push(b'"');
        }
        if let Some(id) = self.reply_to {
            out.extend_from_slice(b",\"reply_to\":");
            integer_into(&mut out, id.value());
        }
        if let Some(data) = &self.data {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data.as_json().as_bytes());
        }
        // Copied to its exact size, because logs and windows keep it.
        Fragment(Bytes::copy_from_slice(&out))
    }

    /// The comment's priority when a batch must shed.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.role.into()
    }
}

/// The JSON members of a comment without braces and id: `"user":"…","text":"…","color":255`.
///
/// Members at their default are left out. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Fragment(Bytes);

impl Fragment {
    /// The members as a log has kept them since [`Comment::fragment`].
    #[must_use]
    pub fn from_log(members: Vec<u8>) -> Self {
        Self(members.into())
    }

    /// Whether `user` posted it.
    #[must_use]
    pub fn is_by(&self, user: &UserId) -> bool {
        // The first member, if there is one: see `Comment::fragment`.
        let mut member = b"\"user\":".to_vec();
        escape_into(&mut member, user.as_str());
        member.push(b',');
        self.0.starts_with(&member)
    }

    /// Who posted it.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        // The first member, if there is one: see `Comment::fragment`.
        let value = self.0.strip_prefix(b"\"user\":")?;
        let mut object = b"{\"user\":".to_vec();
        // The string ends at the first quote that is not escaped.
        let mut escaped = false;
        for (index, &byte) in value.iter().enumerate() {
            object.push(byte);
            match byte {
                b'"' if index > 0 && !escaped => break,
                b'\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        object.push(b'}');
        with_document(&mut object, |document| match document {
            Value::Object(members) => members.members().find_map(|(_, value)| match value {
                Value::String(user) => Some(user.to_owned()),
                _ => None,
            }),
            _ => None,
        })?
    }

    /// The members as JSON text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends the comment as a JSON object that carries its own id and log time: `{"id":N,"ts":N,…}`.
    pub fn object_into(&self, id: Seq, at_ms: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":");
        integer_into(out, id.value());
        out.extend_from_slice(b",\"ts\":");
        integer_into(out, at_ms);
        out.push(b',');
        out.extend_from_slice(&self.0);
        out.push(b'}');
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fragment({})", String::from_utf8_lossy(&self.0))
    }
}

/// Where a comment is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// From right to left.
    #[default]
    Scroll,
    /// Fixed at the top.
    Top,
    /// Fixed at the bottom.
    Bottom,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Scroll, Self::Top, Self::Bottom];

    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scroll => "scroll",
            Self::Top => "top",
            Self::Bottom => "bottom",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

/// The colour of a comment's text, `0xRRGGBB`. White by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color(u32);

impl Color {
    /// The colour `0xRRGGBB`; none for a larger number.
    #[must_use]
    pub const fn new(rgb: u32) -> Option<Self> {
        if rgb <= COLOR_MAX {
            Some(Self(rgb))
        } else {
            None
        }
    }

    /// The colour as `0xRRGGBB`.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl Default for Color {
    fn default() -> Self {
        Self(COLOR_MAX)
    }
}

/// The size of a comment's text, in CSS pixels of a 1080p-high player. 25 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FontSize(u8);

impl FontSize {
    /// A size of [`FONT_SIZE_MIN`] to [`FONT_SIZE_MAX`]; none for any other.
    #[must_use]
    pub const fn new(size: u8) -> Option<Self> {
        if size >= FONT_SIZE_MIN && size <= FONT_SIZE_MAX {
            Some(Self(size))
        } else {
            None
        }
    }

    /// The size as a number.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl Default for FontSize {
    fn default() -> Self {
        Self(25)
    }
}

/// A poster's role in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Anyone.
    #[default]
    Viewer,
    /// A supporter of the streamer.
    Member,
    /// A moderator.
    Moderator,
    /// The room's streamer.
    Streamer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Moderator, Self::Streamer];

    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Streamer => "streamer",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// What to keep if not everything fits into a batch: the lowest is shed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Comments from anyone.
    Viewer,
    /// Comments from members.
    Member,
    /// Comments from moderators and the streamer.
    Staff,
}

impl Priority {
    /// Every priority, lowest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Member, Self::Staff];

    /// The name in counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Staff => "staff",
        }
    }
}

impl From<Role> for Priority {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Member => Self::Member,
            Role::Moderator | Role::Streamer => Self::Staff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CommentLimits;

    fn comment(text: &str) -> Comment {
        Comment::new(CommentText::new(text, &CommentLimits::default()).unwrap())
    }

    #[test]
    fn fragments() {
        fn check(input: &Comment, expected: &str) {
            let fragment = input.fragment();
            assert_eq!(std::str::from_utf8(fragment.as_bytes()).unwrap(), expected);
            let mut object = Vec::new();
            fragment.object_into(Seq::new(7), 1_700, &mut object);
            let value: serde_json::Value = serde_json::from_slice(&object).unwrap();
            assert_eq!((&value["id"], &value["ts"]), (&7.into(), &1_700.into()));
            assert_eq!(value["text"], input.text.as_str());
        }
        check(&comment("hi"), r#""text":"hi""#);
        check(&comment(r#"say "弾\幕""#), r#""text":"say \"弾\\幕\"""#);
        let limits = CommentLimits::default();
        let full = Comment {
            user: Some(UserId::new("u\"1", &limits).unwrap()),
            name: Some(DisplayName::new("Ann", &limits).unwrap()),
            mode: Mode::Top,
            color: Color::new(255).unwrap(),
            size: FontSize::new(64).unwrap(),
            role: Role::Streamer,
            reply_to: Some(Seq::new(41)),
            ..comment("x")
        };
        check(
            &full,
            r#""user":"u\"1","name":"Ann","text":"x","mode":"top","color":255,"size":64,"role":"streamer","reply_to":41"#,
        );
    }

    #[test]
    fn a_fragment_knows_its_poster() {
        let limits = CommentLimits::default();
        let user = |id| UserId::new(id, &limits).unwrap();
        let by = |id| Comment {
            user: Some(user(id)),
            ..comment("x")
        };
        let fragment = by("u\"1").fragment();
        assert!(fragment.is_by(&user("u\"1")));
        for id in ["u\"1", "u", "\\", "弹\\\""] {
            assert_eq!(by(id).fragment().user().as_deref(), Some(id));
        }
        assert_eq!(comment(r#""user":"u","#).fragment().user(), None);
        assert!(!fragment.is_by(&user("u")) && !by("u1").fragment().is_by(&user("u")));
        assert!(!comment(r#""user":"u","#).fragment().is_by(&user("u")));
    }

    #[test]
    fn numbers_out_of_range_are_no_values() {
        assert_eq!(Color::new(0xFF_FFFF), Some(Color::default()));
        assert_eq!(Color::new(0x100_0000), None);
        assert_eq!(FontSize::new(9), None);
        assert_eq!(FontSize::new(10).map(FontSize::value), Some(10));
        assert_eq!(FontSize::new(65), None);
    }

    #[test]
    fn priorities_ascend_and_follow_roles() {
        assert!(Priority::ALL.is_sorted());
        assert_eq!(
            Role::ALL.map(Priority::from).map(Priority::as_str),
            ["viewer", "member", "staff", "staff"]
        );
        assert_eq!(comment("x").priority(), Priority::Viewer);
    }
}
