//! `abuse`: misbehaving peers, as on the internet, from a bounded number of connections for a bounded time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use danmaku_client::AddressError;
use danmaku_wire::{Dialect, RoomId};

use tokio_util::sync::CancellationToken;

use crate::cli::AbuseArgs;
use crate::command::{Verdict, print, say};
use crate::entrance::Entrance;
use crate::error::HarnessError;
use crate::spec::Spec;
use crate::spec_error::SpecError;
use crate::swarm::handshake::{Ask, From, write_request};
use crate::table::{Table, count};
use crate::target::Target;
use danmaku_chat::Random;

/// One way to be a bad peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Manner {
    RandomBytes,
    CutHandshake,
    TrickledHandshake,
    GarbageFrames,
    BrokenFrames,
    HalfOpen,
}

impl Manner {
    const ALL: [Self; 6] = [
        Self::RandomBytes,
        Self::CutHandshake,
        Self::TrickledHandshake,
        Self::GarbageFrames,
        Self::BrokenFrames,
        Self::HalfOpen,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RandomBytes => "random bytes",
            Self::CutHandshake => "truncated handshake",
            Self::TrickledHandshake => "handshake byte by byte",
            Self::GarbageFrames => "handshake, then random bytes",
            Self::BrokenFrames => "handshake, then one broken frame",
            Self::HalfOpen => "connected and silent",
        }
    }
}

/// How a bad connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The server closed it.
    Closed,
    /// The server still held it when time was up.
    Kept,
    /// The peer left by itself.
    Left,
    /// The server did not accept it.
    Refused,
}

/// How many connections ended in each way.
type Fates = [u64; 4];

/// How long a bad connection waits for the server to close it before it leaves.
const PATIENCE: Duration = Duration::from_secs(8);
/// Pause between bad connections of the same kind, to bound the rate whatever the server does.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn abuse(
    args: AbuseArgs,
    stop: &CancellationToken,
) -> Result<Verdict, HarnessError> {
    let room = RoomId::parse(&args.room).map_err(SpecError::RoomPrefix)?;
    let entrance = Entrance::of(&Spec {
        url: args.url.clone(),
        ..Spec::default()
    })?;
    if entrance.secure.is_some() {
        return Err(HarnessError::Url {
            url: args.url,
            source: AddressError::Scheme("https".to_owned()),
        });
    }
    let mut target = Target::reach(entrance).await?;
    say(&format!(
        "{} bad connections at a time for {} s",
        args.connections, args.duration_s
    ));
    let end = Instant::now() + Duration::from_secs(args.duration_s);
    let mut request = Vec::new();
    let ask = Ask {
        server: &target.entrance.address,
        room: room.as_str(),
        dialect: Dialect::WsDeflate,
        from: From::Now,
    };
    write_request(&ask, |_| (), &mut request);
    let request: Arc<[u8]> = request.into();
    let mut peers = JoinSet::new();
    for number in 0..u64::from(args.connections) {
        let (request, stop, socket) = (Arc::clone(&request), stop.clone(), target.socket);
        peers.spawn(async move {
            let mut random = Random::new(args.seed.wrapping_mul(1_000_003).wrapping_add(number));
            let mut fates: BTreeMap<Manner, Fates> = BTreeMap::new();
            while Instant::now() < end && !stop.is_cancelled() {
                let manner = *random.choose(&Manner::ALL);
                let fate =
                    timeout(PATIENCE, misbehave(socket, manner, &request, &mut random)).await;
                let fate = fate.unwrap_or(Fate::Kept);
                fates.entry(manner).or_default()[fate as usize] += 1;
                tokio::time::sleep(PAUSE).await;
            }
            fates
        });
    }
    let mut total: BTreeMap<Manner, Fates> = BTreeMap::new();
    while let Some(fates) = peers.join_next().await {
        for (manner, fates) in
            fates.map_err(|error| HarnessError::system("a bad peer")(error.into()))?
        {
            let sums = total.entry(manner).or_default();
            sums.iter_mut()
                .zip(fates)
                .for_each(|(sum, more)| *sum += more);
        }
    }
    print(&table_of(&args.url.to_string(), &total).render());
    if stop.is_cancelled() {
        print("\npartial: ended early\n");
    }
    Ok(conclude(target.counters().await.is_ok(), &total))
}

fn table_of(url: &str, total: &BTreeMap<Manner, Fates>) -> Table {
    let mut table = Table::new(format!("bad peers of {url}"));
    let kept = format!("kept for {} s", PATIENCE.as_secs());
    table.heads(["", "server closed", &kept, "peer left", "not accepted"]);
    for (manner, fates) in total {
        let [closed, kept, left, refused] = fates.map(count);
        table.row([manner.name(), &closed, &kept, &left, &refused]);
    }
    table
}

/// A server may keep the others: a request head may still be incomplete, and random bytes may be the start of a long frame. A
/// broken frame is invalid at once, and RFC 6455 section 7.1.7 requires failing the connection.
fn conclude(is_alive: bool, total: &BTreeMap<Manner, Fates>) -> Verdict {
    let [closed, kept, ..] = total
        .get(&Manner::BrokenFrames)
        .copied()
        .unwrap_or_default();
    if !is_alive {
        print("\nFAIL: the server no longer answers\n");
        return Verdict::Bad;
    }
    if kept > 0 {
        print(&format!(
            "\nFAIL: the server answers, but kept {} of {} peers that had sent a broken frame\n",
            count(kept),
            count(kept + closed)
        ));
        return Verdict::Bad;
    }
    print(if closed > 0 {
        "\nPASS: the server answers, and has closed every peer that sent a broken frame\n"
    } else {
        "\nPASS: the server answers; no peer with a broken frame waited to be closed\n"
    });
    Verdict::Good
}

async fn misbehave(
    server: std::net::SocketAddr,
    manner: Manner,
    request: &[u8],
    random: &mut Random,
) -> Fate {
    let Ok(mut stream) = TcpStream::connect(server).await else {
        return Fate::Refused;
    };
    let sent = match manner {
        Manner::RandomBytes => send_random(&mut stream, random).await,
        Manner::CutHandshake => {
            stream
                .write_all(&request[..1 + random.below(request.len() - 1)])
                .await
        }
        Manner::TrickledHandshake => trickle(&mut stream, request).await,
        Manner::GarbageFrames => match stream.write_all(request).await {
            Ok(()) => send_random(&mut stream, random).await,
            Err(error) => Err(error),
        },
        Manner::BrokenFrames => match stream.write_all(request).await {
            Ok(()) => {
                stream
                    .write_all(BROKEN_FRAMES[random.below(BROKEN_FRAMES.len())])
                    .await
            }
            Err(error) => Err(error),
        },
        Manner::HalfOpen => Ok(()),
    };
    if sent.is_err() {
        return Fate::Closed;
    }
    // A third leave without closing, which resets the connection if something is unread.
    if random.below(3) == 0 {
        return Fate::Left;
    }
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink).await {
            Ok(0) | Err(_) => return Fate::Closed,
            Ok(_) => {}
        }
    }
}

async fn send_random(stream: &mut TcpStream, random: &mut Random) -> std::io::Result<()> {
    let mut bytes = vec![0; 1 + random.below(8192)];
    for _ in 0..=random.below(8) {
        random.fill(&mut bytes);
        stream.write_all(&bytes).await?;
    }
    Ok(())
}

async fn trickle(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<()> {
    for byte in request.chunks(1) {
        stream.write_all(byte).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Each breaks one rule of RFC 6455 section 5, or a limit.
const BROKEN_FRAMES: [&[u8]; 8] = [
    // Not masked.
    b"\x81\x02hi",
    // A reserved bit.
    b"\xC1\x82\x01\x02\x03\x04\x00\x00",
    // An unknown opcode.
    b"\x83\x80\x01\x02\x03\x04",
    // A fragmented ping.
    b"\x09\x80\x01\x02\x03\x04",
    // A length of 2^62.
    b"\x81\xFF\x40\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04",
    // A continuation of nothing.
    b"\x80\x80\x01\x02\x03\x04",
    // A close frame with one byte.
    b"\x88\x81\x00\x00\x00\x00\x03",
    // Text that is not UTF-8.
    b"\x81\x82\x00\x00\x00\x00\xC3\x28",
];
