//! What a token allows in which rooms.

use serde::{Deserialize, Serialize};

use crate::role::Role;

/// What may be done in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Watch it and read its comments.
    Watch,
    /// Post comments and likes.
    Post,
    /// Retract comments of others, and all other moderation.
    Moderate,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Watch, Self::Post, Self::Moderate];

    /// The word in tokens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Post => "post",
            Self::Moderate => "moderate",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed(u8);

impl Allowed {
    /// No action.
    pub const NOTHING: Self = Self(0);

    /// These actions.
    #[must_use]
    pub fn of(actions: &[Action]) -> Self {
        Self(actions.iter().fold(0, |bits, action| bits | action.bit()))
    }

    /// Whether `action` is among them.
    #[must_use]
    pub const fn has(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// The actions, in order.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |&it| self.has(it))
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One entry of a token's `rooms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// A room's id, or the beginning of ids followed by `*`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// What is allowed there.
    pub allow: Vec<Action>,
}

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The same in every room.
    Everywhere(Allowed),
    /// What the entries say, added up.
    Rooms(Box<[(Pattern, Allowed)]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: Box<str>,
    is_prefix: bool,
}

/// Why a list of grants is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// More entries than are checked.
    #[error("more than {GRANTS_MAX} entries in `rooms`")]
    TooMany,
    /// A pattern that is neither a room id nor the beginning of one followed by `*`.
    #[error("a `match` in `rooms` is neither a room id nor the beginning of one followed by *")]
    BadPattern,
}

impl Grants {
    /// What a token without `rooms` allows: to watch and to post in every room; moderators and operators may moderate, too.
    #[must_use]
    pub fn of_role(role: Role) -> Self {
        let moderates = matches!(role, Role::Moderator | Role::Operator);
        let may = Allowed::of(&[Action::Watch, Action::Post]);
        Self(Kind::Everywhere(if moderates {
            may.and(Allowed::of(&[Action::Moderate]))
        } else {
            may
        }))
    }

    /// What a token's `rooms` allow. Nothing is allowed where no entry matches.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn new(grants: &[Grant]) -> Result<Self, GrantError> {
        if grants.len() > GRANTS_MAX {
            return Err(GrantError::TooMany);
        }
        let entry = |grant: &Grant| Ok((Pattern::new(&grant.pattern)?, Allowed::of(&grant.allow)));
        grants
            .iter()
            .map(entry)
            .collect::<Result<_, _>>()
            .map(|entries| Self(Kind::Rooms(entries)))
    }

    /// What is allowed in `room`.
    #[must_use]
    pub fn in_room(&self, room: &str) -> Allowed {
        match &self.0 {
            Kind::Everywhere(allowed) => *allowed,
            Kind::Rooms(entries) => entries
                .iter()
                .filter(|(pattern, _)| pattern.matches(room))
                .fold(Allowed::NOTHING, |sum, (_, allowed)| sum.and(*allowed)),
        }
    }
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, GrantError> {
        let (text, is_prefix) = match pattern.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (pattern, false),
        };
        let is_of_ids = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        if text.len() > ROOM_ID_BYTES_MAX || !text.bytes().all(is_of_ids) {
            return Err(GrantError::BadPattern);
        }
        Ok(Self {
            text: text.into(),
            is_prefix,
        })
    }

    fn matches(&self, room: &str) -> bool {
        if self.is_prefix {
            room.starts_with(&*self.text)
        } else {
            room == &*self.text
        }
    }
}

/// Entries of a token's `rooms`: every request is checked against all of them.
const GRANTS_MAX: usize = 64;

/// As in `danmaku-wire`, which this crate does not know.
const ROOM_ID_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_add_up_where_they_match() {
        fn check(rooms: &[(&str, &[Action])], room: &str, expected: &[Action]) {
            let grants: Vec<_> = rooms
                .iter()
                .map(|(pattern, allow)| Grant {
                    pattern: (*pattern).to_owned(),
                    allow: allow.to_vec(),
                })
                .collect();
            let allowed = Grants::new(&grants).unwrap().in_room(room);
            assert_eq!(allowed.iter().collect::<Vec<_>>(), expected, "{room}");
        }
        use Action::{Moderate, Post, Watch};
        let rooms: &[(&str, &[Action])] = &[
            ("*", &[Watch]),
            ("live:*", &[Post]),
            ("live:mine", &[Moderate]),
        ];
        check(rooms, "other", &[Watch]);
        check(rooms, "live:", &[Watch, Post]);
        check(rooms, "live:1", &[Watch, Post]);
        check(rooms, "live:mine", &[Watch, Post, Moderate]);
        check(rooms, "live:mine2", &[Watch, Post]);
        check(&[("a", &[Watch])], "b", &[]);
        check(&[("", &[Watch])], "b", &[]);
        check(&[], "a", &[]);
    }

    #[test]
    fn patterns_are_checked() {
        fn check(pattern: &str, expected: Result<(), GrantError>) {
            let grant = Grant {
                pattern: pattern.to_owned(),
                allow: Vec::new(),
            };
            assert_eq!(Grants::new(&[grant]).map(|_| ()), expected, "{pattern}");
        }
        check("a-b_c.d:E9", Ok(()));
        check("*", Ok(()));
        check("a*b", Err(GrantError::BadPattern));
        check("a b", Err(GrantError::BadPattern));
        check("**", Err(GrantError::BadPattern));
        check(&"a".repeat(65), Err(GrantError::BadPattern));
        let many = vec![
            Grant {
                pattern: "a".to_owned(),
                allow: Vec::new()
            };
            65
        ];
        assert_eq!(Grants::new(&many), Err(GrantError::TooMany));
    }

    #[test]
    fn only_moderators_and_operators_moderate_everywhere() {
        for role in Role::ALL {
            let allowed = Grants::of_role(role).in_room("any");
            assert!(allowed.has(Action::Watch) && allowed.has(Action::Post));
            let moderates = matches!(role, Role::Moderator | Role::Operator);
            assert_eq!(allowed.has(Action::Moderate), moderates, "{role:?}");
        }
    }
}
