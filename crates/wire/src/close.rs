//! The table of close codes.

/// Why a connection is closed: number, name, the reason sent, and whether the viewer should reconnect.
///
/// 1000-1009 are those of RFC 6455, section 7.4.1; 4000-4999 are private use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The answer to the viewer's close.
    Normal,
    /// The server is stopping.
    GoingAway,
    /// The viewer broke RFC 6455.
    ProtocolError,
    /// The viewer sent a binary message; there is none in this protocol.
    Unsupported,
    /// A text message or close reason was not UTF-8.
    InvalidData,
    /// A message was over the size limit.
    TooBig,
    /// The viewer read too slowly for too long.
    SlowConsumer,
    /// Nothing was heard from the viewer for too long.
    IdleTimeout,
    /// The room started a new epoch, which must not change during a connection.
    NewEpoch,
    /// The viewer sent far too many messages.
    Flooding,
    /// The viewer's token is missing, not valid or revoked.
    Unauthorized,
    /// The viewer's token has expired.
    Expired,
    /// The viewer's token does not let it watch this room.
    Forbidden,
    /// A newer connection of the same user took this one's place.
    Replaced,
    /// The user has as many connections to this room as are allowed.
    TooManySessions,
}

/// What a closed viewer should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// Reconnect, after a delay of its choice.
    Yes,
    /// Not reconnect: the same would happen again.
    No,
}

struct Row {
    code: u16,
    name: &'static str,
    reason: &'static str,
    reconnect: Reconnect,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 15] = [
        Self::Normal,
        Self::GoingAway,
        Self::ProtocolError,
        Self::Unsupported,
        Self::InvalidData,
        Self::TooBig,
        Self::SlowConsumer,
        Self::IdleTimeout,
        Self::NewEpoch,
        Self::Flooding,
        Self::Unauthorized,
        Self::Expired,
        Self::Forbidden,
        Self::Replaced,
        Self::TooManySessions,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.row().code
    }

    /// The name in counters and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The text on the wire, for humans.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.row().reason
    }

    /// Whether the viewer should reconnect.
    #[must_use]
    pub const fn reconnect(self) -> Reconnect {
        self.row().reconnect
    }

    const fn row(self) -> Row {
        const fn row(
            code: u16,
            name: &'static str,
            reason: &'static str,
            reconnect: Reconnect,
        ) -> Row {
            Row {
                code,
                name,
                reason,
                reconnect,
            }
        }
        use Reconnect::{No, Yes};
        match self {
            Self::Normal => row(1000, "normal", "", No),
            Self::GoingAway => row(1001, "going_away", "the server stops", Yes),
            Self::ProtocolError => row(1002, "protocol_error", "not RFC 6455", No),
            Self::Unsupported => row(1003, "unsupported", "send text messages only", No),
            Self::InvalidData => row(1007, "invalid_data", "not UTF-8", No),
            Self::TooBig => row(1009, "too_big", "message too big", No),
            Self::SlowConsumer => row(4001, "slow_consumer", "reading too slowly", Yes),
            Self::IdleTimeout => row(4002, "idle_timeout", "no sign of life", Yes),
            Self::NewEpoch => row(
                4003,
                "new_epoch",
                "the room's positions began a new epoch",
                Yes,
            ),
            Self::Flooding => row(4004, "flooding", "too many messages", No),
            Self::Unauthorized => row(4005, "unauthorized", "a valid token is needed", No),
            Self::Expired => row(4006, "token_expired", "the token has expired", Yes),
            Self::Forbidden => row(4007, "forbidden", "the token does not allow this room", No),
            Self::Replaced => row(4008, "replaced", "a newer connection took over", No),
            Self::TooManySessions => row(
                4009,
                "too_many_connections",
                "too many connections of this user",
                No,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;

    #[test]
    fn rows_are_distinct_and_fit_a_close_frame() {
        let codes: HashSet<_> = CloseReason::ALL
            .iter()
            .map(|reason| reason.code())
            .collect();
        let names: HashSet<_> = CloseReason::ALL
            .iter()
            .map(|reason| reason.name())
            .collect();
        assert_eq!(
            (codes.len(), names.len()),
            (CloseReason::ALL.len(), CloseReason::ALL.len())
        );
        for reason in CloseReason::ALL {
            assert!(reason.reason().len() + 2 <= CONTROL_PAYLOAD_BYTES_MAX);
        }
    }

    #[test]
    fn only_what_may_pass_asks_to_come_back() {
        let back: Vec<_> = CloseReason::ALL
            .iter()
            .filter(|it| it.reconnect() == Reconnect::Yes)
            .collect();
        assert_eq!(
            back.iter().map(|reason| reason.code()).collect::<Vec<_>>(),
            [1001, 4001, 4002, 4003, 4006]
        );
    }
}
