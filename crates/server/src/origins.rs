//! Owns which web pages may post: those of the server's own origin and those the operator lists (Fetch, "Origin header";
//! RFC 6454). Watching and reading are open to every page.

use std::str::FromStr;

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};

/// The origins whose pages may post, in addition to the server's own.
#[derive(Clone, Debug, Default)]
pub struct AllowedOrigins {
    any: bool,
    listed: Box<[Origin]>,
}

/// One value of `--allowed-origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginArg {
    /// `*`: every origin.
    Any,
    /// This origin.
    One(Origin),
}

/// A scheme, a host and possibly a port, in lower case and without the scheme's default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    authority: String,
}

/// The page that sent a request may not post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginNotAllowed;

/// The text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an origin must be `*` or SCHEME://HOST[:PORT], without a path")]
pub struct OriginError;

impl AllowedOrigins {
    /// The checked flag.
    #[must_use]
    pub fn new(arguments: &[OriginArg]) -> Self {
        let listed = arguments.iter().filter_map(|argument| match argument {
            OriginArg::Any => None,
            OriginArg::One(origin) => Some(origin.clone()),
        });
        Self {
            any: arguments.contains(&OriginArg::Any),
            listed: listed.collect(),
        }
    }

    /// Checks whether the sender of these headers may post. Browsers put `Origin` on every post and upgrade by a page, so
    /// a request without one does not come from a page.
    ///
    /// # Errors
    /// [`OriginNotAllowed`] if the page has another origin, or none (`null`).
    pub fn check(&self, headers: &HeaderMap) -> Result<(), OriginNotAllowed> {
        if self.any || !headers.contains_key(ORIGIN) {
            return Ok(());
        }
        let origin = only(headers, ORIGIN).and_then(|text| text.parse::<Origin>().ok());
        let origin = origin.ok_or(OriginNotAllowed)?;
        if self.listed.contains(&origin) || origin.is_of(headers) {
            Ok(())
        } else {
            Err(OriginNotAllowed)
        }
    }
}

impl Origin {
    /// Whether the request went to this origin. The scheme is not compared: TLS may end at a proxy.
    fn is_of(&self, headers: &HeaderMap) -> bool {
        only(headers, HOST).is_some_and(|host| authority(&self.scheme, host) == self.authority)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let (scheme, rest) = text.split_once("://").ok_or(OriginError)?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let is_authority = |byte: u8| byte.is_ascii_graphic() && !b"/?#@,".contains(&byte);
        let fits = !scheme.is_empty()
            && scheme.bytes().all(is_scheme)
            && !rest.is_empty()
            && rest.bytes().all(is_authority);
        if !fits {
            return Err(OriginError);
        }
        let scheme = scheme.to_ascii_lowercase();
        let authority = authority(&scheme, rest);
        Ok(Self { scheme, authority })
    }
}

impl FromStr for OriginArg {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        match text {
            "*" => Ok(Self::Any),
            text => text.parse().map(Self::One),
        }
    }
}

/// A host and port as browsers write them in `Origin`.
fn authority(scheme: &str, text: &str) -> String {
    let default = match scheme {
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => "",
    };
    let text = text.strip_suffix(default).unwrap_or(text);
    text.to_ascii_lowercase()
}

/// The header's value, if it appears exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: &[&str]) -> AllowedOrigins {
        let arguments: Vec<OriginArg> = list.iter().map(|text| text.parse().unwrap()).collect();
        AllowedOrigins::new(&arguments)
    }

    #[test]
    fn same_origin_and_listed_pages_may_post() {
        #[track_caller]
        fn check(list: &[&str], headers: &[(HeaderName, &str)], expected: bool) {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.clone(), value.parse().unwrap()));
            let headers: HeaderMap = headers.fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            });
            let checked = allowed(list).check(&headers);
            assert_eq!(checked.is_ok(), expected, "{list:?} {headers:?}");
        }
        let host = (HOST, "chat.example:8080");
        check(&[], &[(HOST, "chat.example")], true);
        check(
            &[],
            &[(ORIGIN, "http://chat.example:8080"), host.clone()],
            true,
        );
        check(
            &[],
            &[(ORIGIN, "HTTPS://Chat.Example"), (HOST, "chat.example:443")],
            true,
        );
        check(&[], &[(ORIGIN, "http://chat.example"), host.clone()], false);
        check(
            &[],
            &[(ORIGIN, "http://evil.example:8080"), host.clone()],
            false,
        );
        check(&[], &[(ORIGIN, "null"), host.clone()], false);
        check(&[], &[(ORIGIN, "http://chat.example:8080")], false);
        let same = (ORIGIN, "http://chat.example:8080");
        check(&[], &[same.clone(), same, host.clone()], false);
        let list = &["https://live.example", "http://localhost:3000"];
        check(
            list,
            &[(ORIGIN, "https://live.example"), host.clone()],
            true,
        );
        check(
            list,
            &[(ORIGIN, "https://live.example:443"), host.clone()],
            true,
        );
        check(
            list,
            &[(ORIGIN, "http://live.example"), host.clone()],
            false,
        );
        check(
            list,
            &[(ORIGIN, "https://sub.live.example"), host.clone()],
            false,
        );
        check(&["*"], &[(ORIGIN, "null"), host], true);
    }

    #[test]
    fn origins_are_a_scheme_and_an_authority() {
        for bad in [
            "",
            "live.example",
            "https://",
            "https://live.example/",
            "https://live.example/chat",
            "https://me@live.example",
            "null",
            "https://a.example,https://b.example",
        ] {
            assert_eq!(bad.parse::<OriginArg>(), Err(OriginError), "{bad}");
        }
    }
}
