//! Owns the web files: the page, the overlay, and the modules they and other sites load. They come from the source tree in a
//! debug build, and from the binary in a release build.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::error::ApiError;
use super::negotiation::conditional;
use super::{HttpResult, text};

/// `GET /`.
pub(super) fn page(request: &HeaderMap) -> HttpResult {
    file("page/index.html", request)
}

/// `GET /overlay/{room}`. Its script reads the room from the URL.
pub(super) fn overlay(request: &HeaderMap) -> HttpResult {
    file(OVERLAY, request)
}

/// `GET /web/{path}`. Pages of any site may load the modules.
pub(super) fn module(path: &str, request: &HeaderMap) -> HttpResult {
    let mut response = file(path, request)?;
    response
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Ok(response)
}

fn file(path: &str, request: &HeaderMap) -> HttpResult {
    let content_type = content_type(path).ok_or(ApiError::NotFound)?;
    let file = WebFiles::get(path).ok_or(ApiError::NotFound)?;
    let etag = etag(&file);
    let body = match file.data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let mut response = conditional(text(content_type, body), etag, request);
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if content_type == HTML {
        let frames = if path == OVERLAY { "*" } else { "'none'" };
        let policy = format!("{CONTENT_POLICY}; frame-ancestors {frames}");
        let policy = HeaderValue::try_from(policy).expect("invariant: the policy is visible ASCII");
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// The content type of a file that is served, by its extension.
fn content_type(path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit_once('.')?;
    match extension {
        "html" => Some(HTML),
        "js" => Some("text/javascript; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

fn etag(file: &EmbeddedFile) -> HeaderValue {
    let mut etag = String::from("\"");
    for byte in &file.metadata.sha256_hash()[..ETAG_BYTES] {
        let _ = write!(etag, "{byte:02x}");
    }
    etag.push('"');
    HeaderValue::try_from(etag).expect("invariant: hexadecimal digits are visible ASCII")
}

/// The files under `web` that the server serves; not the packages' manifests, types, tests and examples.
#[derive(RustEmbed)]
#[folder = "../../web"]
#[include = "sdk/**/*.js"]
#[include = "renderer/**/*.js"]
#[include = "adapters/**/*.js"]
#[include = "page/**/*.{html,js,css,svg}"]
struct WebFiles;

const OVERLAY: &str = "page/overlay.html";

const HTML: &str = "text/html; charset=utf-8";

/// What a page of ours may load, without who may frame it. Videos may come from anywhere, everything else from here only.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; media-src 'self' https: http: blob:; base-uri 'none'; form-action 'none'";

/// Bytes of a file's SHA-256 in its `ETag`.
const ETAG_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_pages_load_is_served() {
        #[track_caller]
        fn check(path: &str, expected: bool) {
            let found = module(path, &HeaderMap::new()).is_ok();
            assert_eq!(found, expected, "{path}");
        }
        check("page/index.html", true);
        check("page/overlay.html", true);
        for path in WebFiles::iter() {
            check(&path, true);
        }
        check("page", false);
        check("page/", false);
        check("page/missing.js", false);
        check("sdk/package.json", false);
        check("sdk/../page/index.html", false);
        check("../Cargo.toml", false);
        check("../crates/server/src/main.rs", false);
        check("test/support/server.js", false);
    }
}
