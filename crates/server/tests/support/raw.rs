//! A viewer on a raw socket: what no well-behaved client would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{PATIENCE, Server};

pub(crate) const HANDSHAKE: &str = "GET /v1/rooms/r/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The handshake with one more header line.
pub(crate) fn handshake_with(header: &str) -> String {
    HANDSHAKE.replace("Host: x\r\n", &format!("Host: x\r\n{header}\r\n"))
}

/// An answer to a request on a connection of its own.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The header lines, in lower case.
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Sends one request: a line such as `GET /`, more header lines, and a body.
    pub(crate) fn to(server: &Server, line: &str, headers: &[&str], body: &str) -> Self {
        Self::at(server.address(), line, headers, body)
    }

    pub(crate) fn at(address: SocketAddr, line: &str, headers: &[&str], body: &str) -> Self {
        let mut head = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            head.push_str("Host: localhost\r\n");
        }
        for header in headers {
            head.push_str(&format!("{header}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        Self::read(&mut stream)
    }

    /// Reads to the end of the connection.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // The server may reset the connection after its answer.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.next()
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The code of an error; empty for a success.
    pub(crate) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// A client frame: masked unless told otherwise.
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![first_byte];
    match payload.len() {
        n @ 0..=125 => bytes.push(0x80 | u8::try_from(n).unwrap()),
        n => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(n).unwrap().to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

pub(crate) fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

/// A raw viewer that has read its `joined`.
pub(crate) struct RawViewer(pub(crate) TcpStream);

impl RawViewer {
    pub(crate) fn join(server: &Server) -> Self {
        Self::join_with(server, &[])
    }

    /// A viewer whose kernel takes little before the server must wait.
    pub(crate) fn join_with_receive_buffer(server: &Server, bytes: usize) -> Self {
        let stream = server.raw_stream();
        socket2::SockRef::from(&stream)
            .set_recv_buffer_size(bytes)
            .unwrap();
        Self::join_on(stream, HANDSHAKE, &[])
    }

    /// Joins with `early` in the same packet as the handshake.
    pub(crate) fn join_with(server: &Server, early: &[u8]) -> Self {
        Self::join_on(server.raw_stream(), HANDSHAKE, early)
    }

    /// Joins with one more header line.
    pub(crate) fn join_with_header(server: &Server, header: &str) -> Self {
        let handshake = handshake_with(header);
        Self::join_on(server.raw_stream(), &handshake, &[])
    }

    pub(crate) fn join_on(mut stream: TcpStream, handshake: &str, early: &[u8]) -> Self {
        stream
            .write_all(&[handshake.as_bytes(), early].concat())
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", head.escape_ascii());
        let mut viewer = Self(stream);
        let (opcode, joined) = viewer.read();
        assert_eq!(opcode, 1);
        assert!(joined.starts_with(br#"{"type":"joined""#));
        viewer
    }

    /// One server frame: opcode and payload.
    pub(crate) fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.0.read_exact(&mut length).unwrap();
                usize::try_from(u64::from_be_bytes(length)).unwrap()
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0] & 0x0F, payload)
    }

    /// Skips what else comes, up to the close frame; its code.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            if let (8, payload) = self.read() {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                let mut rest = Vec::new();
                let _ = self.0.read_to_end(&mut rest);
                assert!(rest.is_empty(), "{} after the close", rest.escape_ascii());
                return code;
            }
        }
    }

    /// The next `error` message's code.
    pub(crate) fn error_code(&mut self) -> String {
        loop {
            let (_, payload) = self.read();
            let message: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            if message["type"] == "error" {
                assert!(!message["message"].as_str().unwrap().is_empty());
                return message["code"].as_str().unwrap().to_owned();
            }
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
