//! Owns what a request says about the response it wants: conditions (RFC 9110, section 13) and codings (section 12.5.3).

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
};
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
        // They describe a body (RFC 9110, section 15.4.5).
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().remove(CONTENT_ENCODING);
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

/// Whether the peer accepts gzip (RFC 9110, section 12.5.3): named with a weight that is not 0, or covered by `*`.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut named = None;
    let mut any = None;
    for value in headers.get_all(ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or("").split(',') {
            let mut parts = item.split(';').map(str::trim);
            let coding = parts.next().unwrap_or("");
            let refused = parts
                .filter_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")))
                .any(|weight| weight.parse() == Ok(0.0));
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                named = Some(!refused);
            } else if coding == "*" {
                any = Some(!refused);
            }
        }
    }
    named.or(any).unwrap_or(false)
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

    #[test]
    fn gzip_is_sent_if_accepted() {
        fn check(accept: Option<&str>, expected: bool) {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
            }
            assert_eq!(takes_gzip(&headers), expected, "{accept:?}");
        }
        check(None, false);
        check(Some(""), false);
        check(Some("gzip"), true);
        check(Some("br, GZIP;q=0.5"), true);
        check(Some("deflate, br"), false);
        check(Some("gzip;q=0"), false);
        check(Some("gzip;Q=0"), false);
        check(Some("gzip; q=0.000, *"), false);
        check(Some("*"), true);
        check(Some("br, *;q=0"), false);
    }
}
