//! Opening sockets fast and many: non-blocking connects from rotating source addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// How a viewer's socket reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receive {
    /// With the kernel's own buffer.
    Normal,
    /// With the smallest buffer there is, so that a viewer that stops reading fills it soon.
    Tiny,
}

/// Viewers that share one source address. Each address has about 28,000 ports toward one server.
const VIEWERS_PER_ADDRESS: u32 = 2000;
/// 127.0.0.2 to 127.0.0.201; addresses wrap around after that, enough for 400,000 viewers.
const ADDRESSES_MAX: u32 = 200;
const TINY_BYTES: usize = 2048;

/// Opens sockets to one server.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    server: SocketAddr,
    sources: Sources,
}

/// Where sockets are bound.
#[derive(Clone, Debug)]
enum Sources {
    /// Where the system likes.
    Any,
    /// To so many loopback addresses in turn.
    Loopback(u32),
    /// To these in turn.
    Given(Vec<IpAddr>),
}

impl Dialer {
    /// A dialer for `viewers` sockets in all, from the given addresses. Without any, only a loopback server sees more than one:
    /// elsewhere this machine has the addresses it has.
    pub(crate) fn new(server: SocketAddr, viewers: u32, given: &[IpAddr]) -> Self {
        let addresses = viewers.div_ceil(VIEWERS_PER_ADDRESS).min(ADDRESSES_MAX);
        let sources = if !given.is_empty() {
            Sources::Given(given.to_vec())
        } else if server.is_ipv4() && server.ip().is_loopback() && addresses > 1 {
            Sources::Loopback(addresses)
        } else {
            Sources::Any
        };
        Self { server, sources }
    }

    /// Begins to connect the `index`-th viewer. The socket becomes writable when it is connected.
    pub(crate) fn dial(&self, index: u32, receive: Receive) -> io::Result<TcpStream> {
        let socket = Socket::new(
            Domain::for_address(self.server),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        if receive == Receive::Tiny {
            // Before connecting, because the window is negotiated in the handshake.
            socket.set_recv_buffer_size(TINY_BYTES)?;
        }
        if let Some(source) = self.source(index) {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.server.into()) {
            Ok(()) => {}
            Err(error) if in_progress(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(TcpStream::from_std(socket.into()))
    }

    fn source(&self, index: u32) -> Option<IpAddr> {
        match &self.sources {
            Sources::Any => None,
            Sources::Loopback(addresses) => {
                let last = u8::try_from(2 + index % addresses).ok()?;
                Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
            }
            Sources::Given(given) => Some(given[index as usize % given.len()]),
        }
    }
}

fn in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        || error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_rotate_only_toward_loopback_or_if_given() {
        let check = |server: &str, viewers, given: &[&str], expected: [Option<&str>; 3]| {
            let given: Vec<IpAddr> = given.iter().map(|ip| ip.parse().unwrap()).collect();
            let dialer = Dialer::new(server.parse().unwrap(), viewers, &given);
            let expected = expected.map(|ip| ip.map(|ip| ip.parse().unwrap()));
            assert_eq!([0, 1, 399].map(|index| dialer.source(index)), expected);
        };
        let loopback = "127.0.0.1:80";
        check(loopback, 2000, &[], [None, None, None]);
        let two = [Some("127.0.0.2"), Some("127.0.0.3"), Some("127.0.0.3")];
        check(loopback, 4000, &[], two);
        let most = [Some("127.0.0.2"), Some("127.0.0.3"), Some("127.0.0.201")];
        check(loopback, 1_000_000, &[], most);
        check("192.0.2.1:80", 9000, &[], [None, None, None]);
        let given = [Some("10.0.0.1"), Some("10.0.0.2"), Some("10.0.0.2")];
        check("192.0.2.1:80", 9, &["10.0.0.1", "10.0.0.2"], given);
    }
}
