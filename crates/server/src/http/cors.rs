//! Owns CORS (Fetch, "CORS protocol"). Any page may read any response about rooms, errors included; whether it may post is
//! checked here and not left to the browser.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN,
};
use hyper::{Response, StatusCode};

use super::error::ApiError;
use super::route::Route;
use crate::context::Context;
use crate::refusal::Refusal;

/// `OPTIONS` of a path: which requests it accepts (Fetch, "CORS-preflight request"). Whether the page may send one is checked
/// when it does: browsers hide why a preflight was refused.
pub(super) fn preflight(route: &Route) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow = HeaderValue::from_static(route.allow());
    let answers = response.headers_mut();
    answers.insert(ALLOW, allow.clone());
    answers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow);
    answers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    answers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE_S);
    response
}

/// Checks whether the page that sent a post or a retraction, if any, may do so.
///
/// # Errors
/// [`Refusal::OriginNotAllowed`], which is counted.
pub(super) fn check_origin(context: &Context, headers: &HeaderMap) -> Result<(), Refusal> {
    let checked = context.config.allowed_origins.check(headers);
    checked
        .map_err(Refusal::from)
        .inspect_err(|refusal| context.stats.inbound.refused(refusal))
}

/// Checks that a page posts its body as JSON. Browsers send some other content types without a preflight.
///
/// # Errors
/// [`ApiError::UnsupportedMediaType`].
pub(super) fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_json = || {
        let said = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let essence = said.and_then(|said| said.split(';').next()).unwrap_or("");
        essence.trim().eq_ignore_ascii_case("application/json")
    };
    if !headers.contains_key(ORIGIN) || is_json() {
        Ok(())
    } else {
        Err(ApiError::UnsupportedMediaType)
    }
}

/// Lets any page read a response.
pub(super) fn open(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// Request headers that pages may send besides the safelisted ones.
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, Idempotency-Key, Last-Event-ID");

/// How long a browser may cache the response, in seconds: two hours, the most that browsers accept.
const PREFLIGHT_AGE_S: HeaderValue = HeaderValue::from_static("7200");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_must_declare_json() {
        #[track_caller]
        fn check(origin: bool, content_type: Option<&'static str>, expected: bool) {
            let mut headers = HeaderMap::new();
            if origin {
                headers.insert(ORIGIN, HeaderValue::from_static("http://a.example"));
            }
            if let Some(said) = content_type {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(said));
            }
            let checked = check_media_type(&headers);
            assert_eq!(checked.is_ok(), expected, "{headers:?}");
        }
        check(false, None, true);
        check(false, Some("application/x-www-form-urlencoded"), true);
        check(true, Some("application/json"), true);
        check(true, Some("Application/JSON ; charset=utf-8"), true);
        check(true, Some("text/plain"), false);
        check(true, Some("text/plain; application/json"), false);
        check(true, None, false);
    }
}
