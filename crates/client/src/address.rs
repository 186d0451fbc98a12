//! A server's address, as people write it.

use std::fmt;
use std::str::FromStr;

/// A server's address: `http://HOST:PORT`, `ws://HOST:PORT` or `HOST:PORT`. The port defaults to 80, as in both schemes.
///
/// TLS ends in front of the server for now, so `https` and `wss` are refused with their own error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: u16,
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

    /// `HOST:PORT`, with brackets around an IPv6 address: what the `Host` header carries.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}", self.authority())
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let authority = match text.split_once("://") {
            Some(("http" | "ws", rest)) => rest,
            Some(("https" | "wss", _)) => return Err(AddressError::Tls),
            Some((scheme, _)) => return Err(AddressError::Scheme(scheme.to_owned())),
            None => text,
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(AddressError::NotAnAddress(text.to_owned()));
        }
        let (host, port) =
            split_port(authority).ok_or_else(|| AddressError::NotAnAddress(text.to_owned()))?;
        if host.is_empty() {
            return Err(AddressError::NotAnAddress(text.to_owned()));
        }
        let port = match port {
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
    /// `https` or `wss`.
    #[error("this client does not support TLS: use http://HOST:PORT")]
    Tls,
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
            .map(|address| address.authority());
        assert_eq!(parsed, expected.map(str::to_owned), "for {text:?}");
    }

    #[test]
    fn valid_addresses_are_parsed() {
        check("http://127.0.0.1:8080", Ok("127.0.0.1:8080"));
        check("ws://localhost:9/", Ok("localhost:9"));
        check("localhost:8080", Ok("localhost:8080"));
        check("example.org", Ok("example.org:80"));
        check("http://[::1]:8080", Ok("[::1]:8080"));
        check("[::1]", Ok("[::1]:80"));
    }

    #[test]
    fn invalid_addresses_are_refused_with_the_cause() {
        let not_an_address = |text: &str| Err(AddressError::NotAnAddress(text.to_owned()));
        check("https://127.0.0.1", Err(AddressError::Tls));
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
        check("http://a:1/v1", not_an_address("http://a:1/v1"));
    }
}
