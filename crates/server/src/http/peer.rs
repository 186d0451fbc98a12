//! Owns the peer of a connection, and the client of a request.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap};

use crate::admission::{AddressPermit, Admitted, ConnectionRefusal};
use crate::context::Context;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    /// Its address.
    pub(super) address: IpAddr,
    /// Its connection's permit.
    pub(super) admitted: &'a Admitted,
}

/// Whom a request is from, and its permit.
#[derive(Debug)]
pub(super) enum Requester<'a> {
    /// The peer, for as long as it is connected.
    Peer(&'a AddressPermit),
    /// The client of a trusted proxy, for this request.
    Forwarded(AddressPermit),
}

impl<'a> Peer<'a> {
    /// Whom a request is from.
    ///
    /// # Errors
    /// [`ConnectionRefusal::Address`], which is counted, if a proxy passes on too many requests of one client at once.
    pub(super) fn requester(
        &self,
        context: &Context,
        headers: &HeaderMap,
    ) -> Result<Requester<'a>, ConnectionRefusal> {
        match self.admitted {
            Admitted::Direct(permit) => Ok(Requester::Peer(permit)),
            Admitted::Proxy(_) => {
                let client = context.config.trusted_proxies.client(self.address, headers);
                let now = context.clock.now().monotonic;
                let permit = context.admission.address(client, now);
                permit
                    .map(Requester::Forwarded)
                    .inspect_err(|refusal| context.stats.connections.refused(*refusal))
            }
        }
    }

    /// Whether the request was made on this machine, neither passed on by a proxy on it for someone else nor made by a page
    /// whose host name was pointed at this machine. Browsers send no `Origin` with a page's `GET` of its own site, so every
    /// request must name this machine as its host.
    pub(super) fn is_local(&self, headers: &HeaderMap) -> bool {
        let passed_on = headers.keys().any(|name| {
            let name = name.as_str();
            name.starts_with("x-forwarded") || FORWARDING_HEADERS.contains(&name)
        });
        self.address.to_canonical().is_loopback() && !passed_on && names_us(headers)
    }
}

impl Requester<'_> {
    /// The permit of its address.
    pub(super) fn permit(&self) -> &AddressPermit {
        match self {
            Self::Peer(permit) => permit,
            Self::Forwarded(permit) => permit,
        }
    }

    /// The permit to keep when a proxy's connection becomes a viewer's.
    pub(super) fn into_forwarded(self) -> Option<AddressPermit> {
        match self {
            Self::Peer(_) => None,
            Self::Forwarded(permit) => Some(permit),
        }
    }
}

/// Whether `Host` is this machine, under a name that nobody else controls: also an unspecified address, because that is what
/// the server prints where it listens on all of them.
fn names_us(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<hyper::http::uri::Authority>().ok());
    authority.is_some_and(|authority| {
        let host = authority.host();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|it| it.is_loopback() || it.is_unspecified())
    })
}

/// Headers that proxies add to a request they pass on, besides `x-forwarded…`.
const FORWARDING_HEADERS: &[&str] = &[
    "cf-connecting-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-real-ip",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hosts_are_recognized() {
        #[track_caller]
        fn check(host: &'static str, expected: bool) {
            let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
            assert_eq!(names_us(&headers), expected, "{host}");
        }
        check("localhost", true);
        check("LocalHost:8080", true);
        check("127.0.0.1:8080", true);
        check("[::1]:8080", true);
        check("0.0.0.0:8080", true);
        check("evil.example:8080", false);
        check("localhost.evil.example", false);
        check("10.0.0.1", false);
        check("", false);
    }
}
