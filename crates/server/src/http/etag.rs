//! Owns conditional requests (RFC 9110, section 13).

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};

/// Adds `etag` to a response, or drops the body and answers 304 if the requester already has it.
pub(super) fn conditional(
    mut response: Response<Full<Bytes>>,
    etag: HeaderValue,
    request: &HeaderMap,
) -> Response<Full<Bytes>> {
    if matches(request, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Full::default();
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response.headers_mut().insert(ETAG, etag);
    response
}

/// Whether `If-None-Match` names the tag, compared weakly (RFC 9110, section 13.1.2): caches may have weakened it.
fn matches(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let etag = etag.to_str().map(opaque).unwrap_or_default();
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == "*" || opaque(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_in_lists_and_weakly() {
        #[track_caller]
        fn check(said: &[&'static str], expected: bool) {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(IF_NONE_MATCH, HeaderValue::from_static(value));
            }
            let etag = HeaderValue::from_static("\"a1\"");
            assert_eq!(matches(&headers, &etag), expected, "{said:?}");
        }
        check(&[], false);
        check(&["\"a1\""], true);
        check(&["W/\"a1\""], true);
        check(&["\"b\" , W/\"a1\""], true);
        check(&["\"b\"", "\"a1\""], true);
        check(&["*"], true);
        check(&["a1"], false);
        check(&["\"a\""], false);
    }
}
