//! The web files as a browser gets them.

mod support;

use support::Server;
use support::raw::Answer;

#[test]
fn pages_are_served_with_the_headers_that_protect_them() {
    #[track_caller]
    fn check(server: &Server, path: &str, frames: &str, origin: Option<&str>) {
        let page = Answer::to(server, &format!("GET {path}"), &[], "");
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("access-control-allow-origin"), origin);
        let policy = page.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("script-src 'self'"), "{policy}");
        assert!(
            policy.ends_with(&format!("frame-ancestors {frames}")),
            "{policy}"
        );
        let etag = page.header("etag").unwrap_or_default();
        let known = format!("If-None-Match: {etag}");
        let same = Answer::to(server, &format!("GET {path}"), &[&known], "");
        assert_eq!((same.status, same.body.as_str()), (304, ""), "{path}");
        let head = Answer::to(server, &format!("HEAD {path}"), &[], "");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    let server = Server::start(&[]);
    check(&server, "/", "'none'", None);
    check(&server, "/overlay/r", "*", None);
    check(&server, "/web/page/index.html", "'none'", Some("*"));
    check(&server, "/web/page/overlay.html", "*", Some("*"));
    for (path, status) in [
        ("/web/page/missing.js", 404),
        ("/web/sdk/package.json", 404),
        ("/web/page/../../Cargo.toml", 404),
        ("/web/page/%2e%2e/%2e%2e/Cargo.toml", 404),
        ("/overlay/no%20room", 400),
        ("/overlay", 404),
    ] {
        let answer = Answer::to(&server, &format!("GET {path}"), &[], "");
        assert_eq!(answer.status, status, "{path}");
    }
    let posted = Answer::to(&server, "POST /", &[], "");
    assert_eq!(posted.header("allow"), Some("get, head"));
}
