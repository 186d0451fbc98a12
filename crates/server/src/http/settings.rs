//! Owns the settings of rooms over HTTP.

use bytes::Bytes;
use danmaku_auth::Principal;
use danmaku_log::Settings;
use danmaku_wire::RoomId;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use super::HttpResult;
use super::access;
use super::audit::{self, Action};
use super::body::read_body;
use super::cors;
use super::error::{ApiError, json};
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::refusal::{RateScope, Refusal};

/// `GET /v1/rooms/{room}/settings` and `GET /v1/settings`. The caller has checked that the client may do this.
pub(super) fn show(context: &Context, room: Option<&RoomId>) -> Response<Full<Bytes>> {
    let records = context.log.records();
    let settings = records.own_settings(room);
    let limits = Settings {
        closed: Some(false),
        slow_mode_s: Some(0),
        text_scalars_max: u32::try_from(context.comment_limits.text_scalars_max).ok(),
        emoji_only: Some(false),
        no_links: Some(false),
        special_percent_max: Some(100),
        unique_s: Some(0),
        members_only: Some(false),
        member_age_s: Some(0),
    };
    let view = View {
        room: room.map(RoomId::as_str),
        effective: settings.or(&records.own_settings(None)).or(&limits),
        settings,
    };
    json(StatusCode::OK, &view)
}

/// `PATCH` of the same: a JSON merge patch (RFC 7396). The caller has checked that the client may do this.
pub(super) async fn update(
    context: &Context,
    (permit, who): (&AddressPermit, &Principal),
    room: Option<&RoomId>,
    query: &str,
    request: Request<Incoming>,
) -> HttpResult {
    cors::check_media_type(request.headers())?;
    let (body, _held) = read_body(context, permit, request.into_body()).await?;
    let patch = Patch::parse(&body)?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        Action::Settings,
        room,
        &patch.to_text(),
    )?;
    let now = context.clock.now().monotonic;
    permit
        .try_post(now, 1)
        .map_err(|refusal| Refusal::rate(RateScope::Address, refusal))?;
    let update = |settings| patch.apply(settings);
    let records = context.log.records();
    records.update_settings(room, update, Some(audit)).await?;
    Ok(show(context, room))
}

#[derive(Serialize)]
struct View<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    /// Those that were set here.
    settings: Settings,
    /// Those that hold.
    effective: Settings,
}

/// Members to set, or to unset if they are null. Each was checked by itself.
#[derive(Debug)]
struct Patch(Map<String, Value>);

impl Patch {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let members: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| ApiError::BadSetting {
                field: None,
                problem: "the body must be a JSON object of settings".to_owned(),
            })?;
        for (field, value) in &members {
            let refuse = |problem: String| ApiError::BadSetting {
                field: Some(field.clone()),
                problem,
            };
            let range = Settings::range(field);
            let range = range.ok_or_else(|| refuse("there is no such setting".to_owned()))?;
            let alone = Map::from_iter([(field.clone(), value.clone())]);
            let settings = serde_json::from_value::<Settings>(Value::Object(alone)).ok();
            if settings.is_none_or(|settings| settings.check().is_err()) {
                return Err(refuse(format!("`{field}` must be {range}, or null")));
            }
        }
        Ok(Self(members))
    }

    fn apply(&self, settings: Settings) -> Settings {
        let settings = serde_json::to_value(settings);
        let Ok(Value::Object(mut all)) = settings else {
            unreachable!("settings are an object");
        };
        all.extend(self.0.clone());
        serde_json::from_value(Value::Object(all)).expect("invariant: each member was checked")
    }

    fn to_text(&self) -> String {
        serde_json::to_string(&self.0).expect("invariant: it was parsed from JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches() {
        let before = Settings {
            closed: Some(true),
            slow_mode_s: Some(30),
            ..Settings::default()
        };
        #[track_caller]
        fn check(before: &Settings, patch: &str, expected: Result<&Settings, Option<&str>>) {
            let after = match Patch::parse(patch.as_bytes()) {
                Ok(patch) => Ok(patch.apply(*before)),
                Err(ApiError::BadSetting { field, .. }) => Err(field),
                Err(other) => panic!("{other:?}"),
            };
            let after = after.as_ref().map_err(|field| field.as_deref());
            assert_eq!(after, expected, "{patch}");
        }
        check(&before, "{}", Ok(&before));
        let after = Settings {
            closed: None,
            text_scalars_max: Some(50),
            ..before
        };
        let patch = r#"{"closed":null,"text_scalars_max":50}"#;
        check(&before, patch, Ok(&after));
        check(&before, "", Err(None));
        check(&before, "[]", Err(None));
        check(&before, &"[".repeat(1 << 16), Err(None));
        check(&before, r#"{"closed":1}"#, Err(Some("closed")));
        check(&before, r#"{"slow_mode_s":-1}"#, Err(Some("slow_mode_s")));
        check(&before, r#"{"slow_mode_s":1}"#, Err(Some("slow_mode_s")));
        check(&before, r#"{"slow_mode_s":{}}"#, Err(Some("slow_mode_s")));
        check(&before, r#"{"fast_mode":1}"#, Err(Some("fast_mode")));
    }

    #[test]
    fn faults_are_told_in_plain_words() {
        #[track_caller]
        fn check(patch: &str, expected: &str) {
            let fault = Patch::parse(patch.as_bytes()).unwrap_err();
            assert_eq!(fault.to_string(), expected, "{patch}");
        }
        let slow_mode = "`slow_mode_s` must be 0, or a whole number from 3 to 120, or null";
        check(r#"{"slow_mode_s":"3"}"#, slow_mode);
        check(r#"{"slow_mode_s":[3]}"#, slow_mode);
        check(r#"{"slow_mode_s":121}"#, slow_mode);
        check(r#"{"closed":1}"#, "`closed` must be true or false, or null");
        check(r#"{"fast_mode":1}"#, "there is no such setting");
    }
}
