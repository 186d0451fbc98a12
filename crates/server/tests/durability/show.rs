//! A room with posters and viewers, and what must be true of it in the end.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use danmaku_client::{
    ClientError, Connect, Connection, Event, HttpClient, NewComment, ServerAddress,
};
use danmaku_wire::{Encoding, IdempotencyKey, Position, RoomId, Seq};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How many posters and viewers take part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) viewers: usize,
    pub(crate) posters: usize,
}

impl Crowd {
    /// For a test among others.
    pub(crate) const SMALL: Self = Self {
        viewers: 20,
        posters: 8,
    };

    /// For a campaign.
    pub(crate) const LARGE: Self = Self {
        viewers: 1_000,
        posters: 50,
    };
}

/// Posters and viewers at work.
pub(crate) struct Show {
    address: watch::Sender<ServerAddress>,
    end: watch::Sender<Option<Seq>>,
    over: Arc<AtomicBool>,
    watching: Vec<JoinHandle<Shown>>,
    posting: Vec<JoinHandle<Posted>>,
}

/// What a viewer was shown: the position it began after, and the comments.
type Shown = (Seq, Vec<(Seq, String)>);

/// What the show was, once it is over.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The whole log.
    pub(crate) log: BTreeMap<Seq, String>,
    pub(crate) acknowledged: usize,
    pub(crate) refused: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} comments acknowledged, {} refused, {} in the log",
            self.acknowledged,
            self.refused,
            self.log.len()
        )
    }
}

impl Show {
    /// Every other poster uses keys.
    pub(crate) fn begin(server: ServerAddress, crowd: Crowd) -> Self {
        let (address, addresses) = watch::channel(server);
        let (end, ends) = watch::channel(None);
        let stage = Stage {
            server: addresses,
            over: Arc::default(),
        };
        Self {
            address,
            end,
            over: Arc::clone(&stage.over),
            watching: (0..crowd.viewers)
                .map(|_| tokio::spawn(viewer(stage.clone(), ends.clone())))
                .collect(),
            posting: (0..crowd.posters)
                .map(|n| tokio::spawn(poster(stage.clone(), format!("p{n}"), n % 2 == 0)))
                .collect(),
        }
    }

    /// The server was restarted.
    pub(crate) fn go_to(&self, server: ServerAddress) {
        self.address.send(server).unwrap();
    }

    /// Ends the show: everything acknowledged must be in the log once and in order, what was refused must not, and every
    /// viewer must have been shown the log, without a gap or a duplicate.
    pub(crate) async fn end(self) -> Outcome {
        self.over.store(true, Ordering::Relaxed);
        let mut posted = Posted::new();
        for poster in self.posting {
            posted.extend(poster.await.unwrap());
        }
        let server = self.address.borrow().clone();
        let log = read_log(HttpClient::new(server)).await;
        check(&log, &posted);
        let last = *log.keys().next_back().expect("something was posted");
        self.end.send(Some(last)).unwrap();
        for viewer in self.watching {
            let (first, shown) = viewer.await.unwrap();
            let expected = log.range(first.next()..=last);
            assert!(shown.iter().map(|(seq, text)| (seq, text)).eq(expected));
        }
        let count = |wanted: fn(&Told) -> bool| posted.values().filter(|told| wanted(told)).count();
        Outcome {
            log,
            acknowledged: count(|told| matches!(told, Told::At(_))),
            refused: count(|told| *told == Told::Refused),
        }
    }
}

/// What the tasks share.
#[derive(Clone)]
struct Stage {
    server: watch::Receiver<ServerAddress>,
    over: Arc<AtomicBool>,
}

impl Stage {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn address(&self) -> ServerAddress {
        self.server.borrow().clone()
    }
}

pub(crate) fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

/// What a poster knows of its comments by their texts.
type Posted = HashMap<String, Told>;

/// What a poster was told of a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is in the log, at this position.
    At(Seq),
    /// It is not.
    Refused,
    /// Nothing, or that nobody knows.
    Nothing,
}

/// Posts one comment after the other. With keys, it repeats one until it is acknowledged.
async fn poster(stage: Stage, name: String, keyed: bool) -> Posted {
    let mut posted = Posted::new();
    for n in 0.. {
        if stage.is_over() {
            break;
        }
        let text = format!("{name}-{n}");
        let told = loop {
            let mut http = HttpClient::new(stage.address());
            let new = [NewComment::new(&text)];
            let outcome = if keyed {
                let key = IdempotencyKey::new(&text).unwrap();
                http.post_comments_with_key(&room(), &new, &key).await
            } else {
                http.post_comments(&room(), &new).await
            };
            match outcome {
                Ok(posted) => break Told::At(posted.ids[0]),
                Err(_) if keyed => {}
                Err(ClientError::Refused(refusal)) => match &*refusal.code {
                    "outcome_unknown" => break Told::Nothing,
                    "unavailable" => break Told::Refused,
                    _ => panic!("{refusal:?}"),
                },
                Err(_) => break Told::Nothing,
            }
            tokio::time::sleep(PAUSE).await;
        };
        if !matches!(told, Told::At(_)) {
            tokio::time::sleep(PAUSE).await;
        }
        posted.insert(text, told);
    }
    posted
}

/// Watches until it has seen everything up to the position that `end` names; what it was shown, from its first position on.
async fn viewer(stage: Stage, mut end: watch::Receiver<Option<Seq>>) -> Shown {
    let mut shown = Vec::new();
    let mut first = None;
    let mut at: Option<Position> = None;
    loop {
        let mut connect = Connect::new(stage.address(), room());
        connect.encoding = Encoding::Deflate;
        connect.since = at;
        let Ok(mut connection) = Connection::connect(&connect).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            if let (Some(end), Some(at)) = (*end.borrow_and_update(), at)
                && at.seq >= end
            {
                return (first.unwrap(), shown);
            }
            let event = tokio::select! {
                event = connection.next() => event,
                _ = end.changed() => continue,
            };
            match event {
                Ok(Event::Joined(joined)) => {
                    if let Some(at) = at {
                        assert!(joined.resumed, "cannot resume at {at}: {joined:?}");
                        assert_eq!((joined.epoch, joined.after), (at.epoch, at.seq));
                    }
                    first.get_or_insert(joined.after);
                    at = Some(Position {
                        epoch: joined.epoch,
                        seq: joined.after,
                    });
                }
                Ok(Event::Batch(batch)) => {
                    let at = at.as_mut().unwrap();
                    assert_eq!((batch.after, batch.shed), (at.seq, 0));
                    at.seq = batch.seq;
                    shown.extend(batch.comments.into_iter().map(|it| (it.id, it.text)));
                }
                Ok(Event::Closing(_)) => {}
                Ok(Event::Closed(_)) | Err(_) => break,
                Ok(other) => panic!("{other:?}"),
            }
        }
    }
}

/// The whole log.
pub(crate) async fn read_log(mut http: HttpClient) -> BTreeMap<Seq, String> {
    let mut log = BTreeMap::new();
    let mut since = None;
    loop {
        let page = http.comments(&room(), since, Some(1_000)).await.unwrap();
        assert!(page.gap.is_none(), "{:?}", page.gap);
        log.extend(page.comments.into_iter().map(|it| (it.id, it.text)));
        since = Some(Position {
            epoch: page.epoch,
            seq: page.seq,
        });
        if !page.more {
            return log;
        }
    }
}

fn check(log: &BTreeMap<Seq, String>, posted: &Posted) {
    let mut places = HashMap::new();
    for (seq, text) in log {
        assert_eq!(places.insert(text, *seq), None, "{text} is there twice");
        assert!(posted.contains_key(text), "nobody posted {text}");
    }
    for (text, told) in posted {
        match told {
            Told::At(seq) => assert_eq!(places.get(text), Some(seq), "{text}"),
            Told::Refused => assert_eq!(places.get(text), None, "{text}"),
            Told::Nothing => {}
        }
    }
    let dense = (1..).map(Seq::new).take(log.len());
    assert!(log.keys().copied().eq(dense), "positions are not dense");
}

/// How long a poster waits before it goes on after an error.
const PAUSE: Duration = Duration::from_millis(10);
