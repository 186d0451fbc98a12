//! A viewer's socket: plain, or with TLS around it. Plain costs nothing per frame but a look at which it is.

use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// How sockets are encrypted.
#[derive(Clone)]
pub struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A viewer's socket.
pub(super) enum Link {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<Encrypted>),
}

/// A TLS session and its socket.
pub(super) struct Encrypted {
    socket: TcpStream,
    session: ClientConnection,
}

impl Secure {
    /// Encrypts for a server of this name. Sessions are not resumed: thousands of viewers are as many browsers.
    pub fn new(config: &ClientConfig, name: ServerName<'static>) -> Self {
        let mut config = config.clone();
        config.resumption = Resumption::disabled();
        Self {
            config: Arc::new(config),
            name,
        }
    }
}

impl Link {
    /// A link over a socket that may not be connected yet.
    pub(super) fn new(socket: TcpStream, secure: Option<&Secure>) -> io::Result<Self> {
        let Some(Secure { config, name }) = secure else {
            return Ok(Self::Plain(socket));
        };
        let session = ClientConnection::new(Arc::clone(config), name.clone());
        let session = session.map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Encrypted { socket, session })))
    }

    /// The socket, to be polled.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(encrypted) => &mut encrypted.socket,
        }
    }

    /// Whether a read of so many bytes into so large a buffer took everything there was. Edge-triggered: bytes that come after a
    /// short read make a new event, so the read that would only say so is spared.
    #[inline]
    pub(super) fn is_empty_after(&self, read: usize, buffer_bytes: usize) -> bool {
        match self {
            Self::Plain(_) => read < buffer_bytes,
            // A read ends with a record.
            Self::Tls(_) => false,
        }
    }

    /// Sends what a handshake or an earlier write could not; plain links have nothing like it.
    pub(super) fn send_rest(&mut self) {
        if let Self::Tls(encrypted) = self {
            // A broken socket shows at the next read.
            let _ = encrypted.send();
        }
    }
}

impl Read for Link {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(encrypted) => encrypted.read(buffer),
        }
    }
}

impl Write for Link {
    /// What is written before the end of the TLS handshake is sent after it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(encrypted) => {
                let written = encrypted.session.writer().write(bytes)?;
                encrypted.send()?;
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Encrypted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                decrypted => return decrypted,
            }
            if self.session.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let processed = self.session.process_new_packets();
            // The rest of the handshake, or the alert that says what is wrong.
            let sent = self.send();
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            sent?;
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The socket's next event sends the rest.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
