//! Owns the table of paths and their methods.

use danmaku_wire::{RoomId, Seq};
use hyper::Method;
use percent_encoding::percent_decode_str;

use super::error::ApiError;
use crate::posting::Decision;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/`
    Page,
    /// `/overlay/{room}`
    Overlay,
    /// `/web/{path}`, with the path as written
    Web(String),
    /// `/healthz`
    Healthz,
    /// `/readyz`
    Readyz,
    /// `/metrics`
    Metrics,
    /// `/v1/stats`
    Stats,
    /// `/v1/rooms`
    Rooms,
    /// `/v1/rooms/{room}`
    Room(RoomId),
    /// `/v1/rooms/{room}/ws`
    Socket(RoomId),
    /// `/v1/rooms/{room}/events`
    Events(RoomId),
    /// `/v1/rooms/{room}/likes`
    Likes(RoomId),
    /// `/v1/rooms/{room}/export`
    Export(RoomId),
    /// `/v1/rooms/{room}/streams`
    Streams(RoomId),
    /// `/v1/rooms/{room}/streams/{id}`, with the id as written
    Stream(RoomId, String),
    /// `/v1/rooms/{room}/pin`
    Pin(RoomId),
    /// `/v1/rooms/{room}/stats`
    Figures(RoomId),
    /// `/v1/rooms/{room}/segments/head`
    SegmentHead(RoomId),
    /// `/v1/rooms/{room}/segments/{length_ms}/{n}`, with the numbers as written
    Segment(RoomId, String, String),
    /// `/v1/rooms/{room}/comments`
    Comments(RoomId),
    /// `/v1/rooms/{room}/comments/{id}`, with the id as written
    Comment(RoomId, String),
    /// `/v1/revocations`
    Revocations,
    /// `/v1/revocations/{id}`, with the id as written
    Revocation(String),
    /// `/v1/users/{user}/comments`, with the id decoded
    UserComments(String),
    /// `/v1/settings` without a room, `/v1/rooms/{room}/settings` with one
    Settings(Option<RoomId>),
    /// `/v1/sanctions` without a room, `/v1/rooms/{room}/sanctions` with one
    Sanctions(Option<RoomId>),
    /// The same with `/{id}`, as written
    Sanction(Option<RoomId>, String),
    /// `/v1/terms` without a room, `/v1/rooms/{room}/terms` with one
    Terms(Option<RoomId>),
    /// `/v1/rooms/{room}/held`
    Held(RoomId),
    /// `/v1/rooms/{room}/held/{id}/allow` and `…/deny`, with the id as written
    Decision(RoomId, String, Decision),
    /// `/v1/rooms/{room}/comments/{id}/reports`, with the id as written
    Reports(RoomId, String),
    /// `/v1/audit`
    Audit,
}

impl Route {
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::BadRoomId`].
    pub(super) fn parse(path: &str) -> Result<Self, ApiError> {
        if let Some(file) = path.strip_prefix("/web/") {
            return Ok(Self::Web(file.to_owned()));
        }
        let mut segments = path.trim_start_matches('/').split('/');
        let segments = [(); SEGMENTS_MAX].map(|()| segments.next());
        match segments {
            [Some(""), None, ..] => Ok(Self::Page),
            [Some("overlay"), Some(room), None, ..] => room_id(room).map(|_| Self::Overlay),
            [Some("healthz"), None, ..] => Ok(Self::Healthz),
            [Some("readyz"), None, ..] => Ok(Self::Readyz),
            [Some("metrics"), None, ..] => Ok(Self::Metrics),
            [Some("v1"), Some("stats"), None, ..] => Ok(Self::Stats),
            [Some("v1"), Some("settings"), None, ..] => Ok(Self::Settings(None)),
            [Some("v1"), Some("audit"), None, ..] => Ok(Self::Audit),
            [Some("v1"), Some("terms"), None, ..] => Ok(Self::Terms(None)),
            [Some("v1"), Some("sanctions"), None, ..] => Ok(Self::Sanctions(None)),
            [Some("v1"), Some("sanctions"), Some(id), None, ..] => {
                Ok(Self::Sanction(None, id.to_owned()))
            }
            [Some("v1"), Some("revocations"), None, ..] => Ok(Self::Revocations),
            [Some("v1"), Some("revocations"), Some(id), None, ..] => {
                Ok(Self::Revocation(id.to_owned()))
            }
            [Some("v1"), Some("rooms"), None, ..] => Ok(Self::Rooms),
            [Some("v1"), Some("rooms"), Some(room), below @ ..] => {
                Self::in_room(room_id(room)?, below)
            }
            [
                Some("v1"),
                Some("users"),
                Some(user),
                Some("comments"),
                None,
                ..,
            ] => {
                let user = percent_decode_str(user).decode_utf8_lossy();
                Ok(Self::UserComments(user.into_owned()))
            }
            _ => Err(ApiError::NotFound),
        }
    }

    /// The paths below `/v1/rooms/{room}`.
    fn in_room(room: RoomId, below: [Option<&str>; SEGMENTS_MAX - 3]) -> Result<Self, ApiError> {
        match below {
            [None, ..] => Ok(Self::Room(room)),
            [Some("ws"), None, ..] => Ok(Self::Socket(room)),
            [Some("events"), None, ..] => Ok(Self::Events(room)),
            [Some("comments"), None, ..] => Ok(Self::Comments(room)),
            [Some("comments"), Some(id), None, ..] => Ok(Self::Comment(room, id.to_owned())),
            [Some("likes"), None, ..] => Ok(Self::Likes(room)),
            [Some("export"), None, ..] => Ok(Self::Export(room)),
            [Some("streams"), None, ..] => Ok(Self::Streams(room)),
            [Some("streams"), Some(id), None, ..] => Ok(Self::Stream(room, id.to_owned())),
            [Some("pin"), None, ..] => Ok(Self::Pin(room)),
            [Some("stats"), None, ..] => Ok(Self::Figures(room)),
            [Some("settings"), None, ..] => Ok(Self::Settings(Some(room))),
            [Some("comments"), Some(id), Some("reports"), None] => {
                Ok(Self::Reports(room, id.to_owned()))
            }
            [Some("terms"), None, ..] => Ok(Self::Terms(Some(room))),
            [Some("held"), None, ..] => Ok(Self::Held(room)),
            [Some("held"), Some(id), Some("allow"), None] => {
                Ok(Self::Decision(room, id.to_owned(), Decision::Allow))
            }
            [Some("held"), Some(id), Some("deny"), None] => {
                Ok(Self::Decision(room, id.to_owned(), Decision::Deny))
            }
            [Some("sanctions"), None, ..] => Ok(Self::Sanctions(Some(room))),
            [Some("sanctions"), Some(id), None, ..] => {
                Ok(Self::Sanction(Some(room), id.to_owned()))
            }
            [Some("segments"), Some("head"), None, ..] => Ok(Self::SegmentHead(room)),
            [Some("segments"), Some(length_ms), Some(n), None] => {
                Ok(Self::Segment(room, length_ms.to_owned(), n.to_owned()))
            }
            _ => Err(ApiError::NotFound),
        }
    }

    /// The methods that the path accepts, as listed in `Allow`.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Self::Page
            | Self::Overlay
            | Self::Web(_)
            | Self::Healthz
            | Self::Readyz
            | Self::Metrics
            | Self::Stats
            | Self::Audit => "GET, HEAD",
            Self::Rooms
            | Self::Room(_)
            | Self::Figures(_)
            | Self::SegmentHead(_)
            | Self::Segment(..)
            | Self::Export(_)
            | Self::Held(_) => "GET, HEAD, OPTIONS",
            Self::Likes(_) | Self::Decision(..) | Self::Reports(..) => "POST, OPTIONS",
            Self::Terms(None) => "GET, HEAD, PUT",
            Self::Terms(Some(_)) => "GET, HEAD, PUT, OPTIONS",
            Self::Socket(_) | Self::Events(_) => "GET, OPTIONS",
            Self::Comments(_) | Self::Streams(_) => "GET, HEAD, POST, OPTIONS",
            Self::Stream(..) => "PATCH, OPTIONS",
            Self::Comment(..) => "DELETE, OPTIONS",
            Self::Revocations => "GET, HEAD, POST",
            Self::Revocation(_) => "DELETE",
            Self::UserComments(_) => "GET, HEAD, DELETE",
            Self::Sanctions(None) => "GET, HEAD, POST",
            Self::Sanctions(Some(_)) => "GET, HEAD, POST, OPTIONS",
            Self::Sanction(None, _) => "DELETE",
            Self::Sanction(Some(_), _) => "DELETE, OPTIONS",
            Self::Pin(_) => "GET, HEAD, POST, DELETE, OPTIONS",
            Self::Settings(None) => "GET, HEAD, PATCH",
            Self::Settings(Some(_)) => "GET, HEAD, PATCH, OPTIONS",
        }
    }

    /// # Errors
    /// [`ApiError::MethodNotAllowed`].
    pub(super) fn check_method(&self, method: &Method) -> Result<(), ApiError> {
        let allow = self.allow();
        if allow.split(", ").any(|name| name == method.as_str()) {
            Ok(())
        } else {
            Err(ApiError::MethodNotAllowed { allow })
        }
    }

    /// Whether a request counts toward the request limit: posts, joins and probes don't.
    pub(super) fn is_asked(&self, method: &Method) -> bool {
        let watches = matches!(self, Self::Socket(_) | Self::Events(_));
        let posts = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
        !posts && !self.is_probe() && (!watches || *method == Method::OPTIONS)
    }

    /// The room, for requests that need the right to watch it. A WebSocket may say who it is later.
    pub(super) fn is_read(&self, method: &Method) -> Option<&RoomId> {
        match self {
            Self::Room(room)
            | Self::Figures(room)
            | Self::Events(room)
            | Self::SegmentHead(room)
            | Self::Segment(room, ..) => Some(room),
            Self::Comments(room) | Self::Streams(room) | Self::Pin(room)
                if *method != Method::POST && *method != Method::DELETE =>
            {
                Some(room)
            }
            _ => None,
        }
    }

    /// The room whose moderators may do what it names; `None` if only operators may.
    pub(super) fn moderated_room(&self) -> Option<&RoomId> {
        match self {
            Self::Comment(room, _)
            | Self::Pin(room)
            | Self::Streams(room)
            | Self::Stream(room, _)
            | Self::Held(room)
            | Self::Decision(room, ..) => Some(room),
            Self::Settings(room)
            | Self::Terms(room)
            | Self::Sanctions(room)
            | Self::Sanction(room, _) => room.as_ref(),
            _ => None,
        }
    }

    /// Whether it is a supervisor's probe, which costs nothing.
    pub(super) fn is_probe(&self) -> bool {
        matches!(self, Self::Healthz | Self::Readyz)
    }
}

/// A room id in a path; some clients escape its `:`.
fn room_id(segment: &str) -> Result<RoomId, ApiError> {
    let decoded = percent_decode_str(segment).decode_utf8_lossy();
    RoomId::parse(&decoded).map_err(ApiError::BadRoomId)
}

/// Segments of the longest path, plus one.
const SEGMENTS_MAX: usize = 7;

/// A comment id in a path: a position, so not 0.
pub(super) fn comment_id(segment: &str) -> Result<Seq, ApiError> {
    segment
        .parse()
        .ok()
        .filter(|&id| id > 0 && segment.bytes().all(|byte| byte.is_ascii_digit()))
        .map(Seq::new)
        .filter(|&id| id <= Seq::MAX)
        .ok_or(ApiError::BadCommentId { field: "id" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_routes_and_routes_methods() {
        #[track_caller]
        fn check(path: &str, allow: Result<&str, &str>) {
            let route = Route::parse(path);
            let found = route.as_ref().map(Route::allow).map_err(ApiError::code);
            assert_eq!(found, allow, "{path}");
        }
        check("/", Ok("GET, HEAD"));
        check("/overlay/r", Ok("GET, HEAD"));
        check("/overlay/no%20room", Err("bad_room_id"));
        check("/overlay/r/x", Err("not_found"));
        check("/web/sdk/index.js", Ok("GET, HEAD"));
        check("/metrics", Ok("GET, HEAD"));
        check("/metrics/", Err("not_found"));
        check("/v1/rooms", Ok("GET, HEAD, OPTIONS"));
        check("/v1/rooms/a%3Ab", Ok("GET, HEAD, OPTIONS"));
        check("/v1/rooms/no%20room/ws", Err("bad_room_id"));
        check("/v1/rooms/../ws", Err("bad_room_id"));
        check("/v1/rooms/%2E/ws", Err("bad_room_id"));
        check("/v1/rooms/r/ws", Ok("GET, OPTIONS"));
        check("/v1/rooms/r/comments", Ok("GET, HEAD, POST, OPTIONS"));
        check("/v1/rooms/r/comments/7", Ok("DELETE, OPTIONS"));
        check("/v1/rooms/r/comments/7/x", Err("not_found"));
        check("/v1/rooms/r/likes", Ok("POST, OPTIONS"));
        check("/v1/rooms/r/export", Ok("GET, HEAD, OPTIONS"));
        check("/v1/rooms/r/export/x", Err("not_found"));
        check("/v1/rooms/r/streams", Ok("GET, HEAD, POST, OPTIONS"));
        check("/v1/rooms/r/streams/1", Ok("PATCH, OPTIONS"));
        check("/v1/rooms/r/segments/head", Ok("GET, HEAD, OPTIONS"));
        check("/v1/rooms/r/segments/2000/7", Ok("GET, HEAD, OPTIONS"));
        check("/v1/rooms/r/segments/2000", Err("not_found"));
        check("/v1/rooms/r/segments/2000/7/x", Err("not_found"));
        check("/v1/rooms/r/nothing", Err("not_found"));
        check("/v1/users/a%2Fb/comments", Ok("GET, HEAD, DELETE"));
        check("/v1/revocations", Ok("GET, HEAD, POST"));
        check("/v1/revocations/7", Ok("DELETE"));
        check("/v1/revocations/7/x", Err("not_found"));
        check("/v1/users/a", Err("not_found"));
        check("/v1/rooms/r/pin", Ok("GET, HEAD, POST, DELETE, OPTIONS"));
        check("/v1/rooms/r/stats", Ok("GET, HEAD, OPTIONS"));
        check("/v1/settings", Ok("GET, HEAD, PATCH"));
        check("/v1/rooms/r/settings", Ok("GET, HEAD, PATCH, OPTIONS"));
        check("/v1/audit", Ok("GET, HEAD"));
        check("/v1/terms", Ok("GET, HEAD, PUT"));
        check("/v1/rooms/r/terms", Ok("GET, HEAD, PUT, OPTIONS"));
        check("/v1/rooms/r/held", Ok("GET, HEAD, OPTIONS"));
        check("/v1/rooms/r/held/7/allow", Ok("POST, OPTIONS"));
        check("/v1/rooms/r/held/7/deny", Ok("POST, OPTIONS"));
        check("/v1/rooms/r/held/7/maybe", Err("not_found"));
        check("/v1/rooms/r/comments/7/reports", Ok("POST, OPTIONS"));
        check("/v1/sanctions", Ok("GET, HEAD, POST"));
        check("/v1/sanctions/7", Ok("DELETE"));
        check("/v1/rooms/r/sanctions", Ok("GET, HEAD, POST, OPTIONS"));
        check("/v1/rooms/r/sanctions/7", Ok("DELETE, OPTIONS"));
        check("/v1/rooms/r/sanctions/7/x", Err("not_found"));
        let route = Route::parse("/v1/rooms/r/events").unwrap();
        assert!(route.check_method(&Method::GET).is_ok());
        assert!(route.check_method(&Method::HEAD).is_err());
    }

    #[test]
    fn comment_ids() {
        fn check(segment: &str, expected: Option<u64>) {
            assert_eq!(comment_id(segment).ok().map(Seq::value), expected);
        }
        check("7", Some(7));
        check("9007199254740991", Some((1 << 53) - 1));
        for bad in [
            "",
            "0",
            "-1",
            "+7",
            "7x",
            "9007199254740992",
            "99999999999999999999",
        ] {
            check(bad, None);
        }
    }
}
