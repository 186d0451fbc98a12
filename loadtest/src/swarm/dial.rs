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
    addresses: u32,
}

impl Dialer {
    /// A dialer for `viewers` sockets in all. Only a loopback server sees more than one source address: elsewhere this
    /// machine has the addresses it has.
    pub(crate) fn new(server: SocketAddr, viewers: u32) -> Self {
        let rotates = server.is_ipv4() && server.ip().is_loopback();
        let addresses = if rotates {
            viewers.div_ceil(VIEWERS_PER_ADDRESS).min(ADDRESSES_MAX)
        } else {
            1
        };
        Self { server, addresses }
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
        if self.addresses < 2 {
            return None;
        }
        let last = u8::try_from(2 + index % self.addresses).ok()?;
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
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
    fn source_addresses_rotate_only_toward_loopback() {
        let many = Dialer::new("127.0.0.1:80".parse().unwrap(), 6000);
        let sources: Vec<String> = (0..4)
            .filter_map(|index| many.source(index))
            .map(|ip| ip.to_string())
            .collect();
        assert_eq!(
            sources,
            ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.2"]
        );
        assert_eq!(
            Dialer::new("127.0.0.1:80".parse().unwrap(), 2000).source(0),
            None
        );
        assert_eq!(
            Dialer::new("192.0.2.1:80".parse().unwrap(), 9000).source(0),
            None
        );
        let most = Dialer::new("127.0.0.1:80".parse().unwrap(), 1_000_000);
        assert_eq!(
            most.source(399),
            Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 201)))
        );
    }
}
