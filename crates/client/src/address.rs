//! A server's address, as people write it.

use std::fmt;
use std::str::FromStr;

/// A server's address: `http://HOST:PORT/PREFIX` or `HOST:PORT`; `ws`, `https` and `wss` too. The port defaults to that of the
/// scheme. The prefix is what a proxy puts before every path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: u16,
    is_tls: bool,
    /// Empty, or with a slash at its start and none at its end.
    prefix: String,
}

impl ServerAddress {
    /// The host: a name, an IPv4 address, or an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection is encrypted: `https` or `wss`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// A path of the API on this server: `path` begins with a slash.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// `HOST:PORT`, with brackets around an IPv6 address: what the `Host` header carries.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http" | "ws", rest)) => (false, rest),
            Some(("https" | "wss", rest)) => (true, rest),
            Some((scheme, _)) => return Err(AddressError::Scheme(scheme.to_owned())),
            None => (false, text),
        };
        let not_an_address = || AddressError::NotAnAddress(text.to_owned());
        let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let is_odd = |letter: char| !letter.is_ascii_graphic() || "?#@\\\"<>".contains(letter);
        if authority.is_empty() || rest.contains(is_odd) {
            return Err(not_an_address());
        }
        let (host, port) = split_port(authority).ok_or_else(not_an_address)?;
        if host.is_empty() {
            return Err(not_an_address());
        }
        let port = match port {
            None if is_tls => 443,
            None => 80,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| AddressError::Port(digits.to_owned()))?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            is_tls,
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }
}

/// `[::1]:80` and `host:80`; a bare IPv6 address has more than one colon and needs its brackets.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

/// Why a text is not a server address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A scheme that is neither HTTP nor WebSocket.
    #[error("unknown scheme `{0}`: use http://HOST:PORT")]
    Scheme(String),
    /// A port outside 1 to 65535.
    #[error("`{0}` is not a port between 1 and 65535")]
    Port(String),
    /// Anything else that is not `HOST:PORT`.
    #[error("`{0}` is not an address: use http://HOST:PORT")]
    NotAnAddress(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, AddressError>) {
        let parsed = text
            .parse::<ServerAddress>()
            .map(|address| address.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "for {text:?}");
    }

    #[test]
    fn valid_addresses_are_parsed() {
        check("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080"));
        check("ws://localhost:9/", Ok("http://localhost:9"));
        check("localhost:8080", Ok("http://localhost:8080"));
        check("example.org", Ok("http://example.org:80"));
        check("http://[::1]:8080", Ok("http://[::1]:8080"));
        check("[::1]", Ok("http://[::1]:80"));
        check("https://example.org", Ok("https://example.org:443"));
        check("wss://example.org:8443/", Ok("https://example.org:8443"));
        check("http://a/chat/", Ok("http://a:80/chat"));
        check("https://a:1/live/chat", Ok("https://a:1/live/chat"));
    }

    #[test]
    fn invalid_addresses_are_refused_with_the_cause() {
        let not_an_address = |text: &str| Err(AddressError::NotAnAddress(text.to_owned()));
        check(
            "ftp://127.0.0.1",
            Err(AddressError::Scheme("ftp".to_owned())),
        );
        check("127.0.0.1:0", Err(AddressError::Port("0".to_owned())));
        check(
            "127.0.0.1:65536",
            Err(AddressError::Port("65536".to_owned())),
        );
        check("127.0.0.1:", Err(AddressError::Port(String::new())));
        check("", not_an_address(""));
        check("http://", not_an_address("http://"));
        check("::1", not_an_address("::1"));
        check("[::1", not_an_address("[::1"));
        check("[::1]x", not_an_address("[::1]x"));
        check("http://a:1?x", not_an_address("http://a:1?x"));
        check("http://a:1/a b", not_an_address("http://a:1/a b"));
        check("http://a:1/é", not_an_address("http://a:1/é"));
    }
}
