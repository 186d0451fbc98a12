//! Reads and changes of records.

use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::error::StoreError;
use crate::record::{
    Audit, AuditQuery, Change, ChangeRefusal, Changed, Held, Pin, Revocation, Revoked, Sample,
    Sanction, SanctionKind, SettingsRow, Stream, Subject,
};
use crate::row::{int, uint};

/// What a file knows beside rooms' entries.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(pub(crate) &'a Connection);

impl Records<'_> {
    /// The settings of all rooms, and the defaults.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn settings(&self) -> Result<Vec<SettingsRow>, StoreError> {
        self.all("SELECT room, body FROM settings", [], |row| {
            Ok(SettingsRow {
                room: room(row.get(0)?),
                body: row.get(1)?,
            })
        })
    }

    /// The sanctions of all rooms.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sanctions(&self) -> Result<Vec<Sanction>, StoreError> {
        let query = "SELECT id, room, subject_kind, subject, kind, until_ms, who, why, at_ms FROM sanction ORDER BY id";
        self.all(query, [], |row| {
            let subject = row.get(3)?;
            Ok(Sanction {
                id: uint(row.get(0)?),
                room: room(row.get(1)?),
                subject: match row.get(2)? {
                    ADDRESS => Subject::Address(subject),
                    _ => Subject::User(subject),
                },
                kind: match row.get(4)? {
                    BAN => SanctionKind::Ban,
                    SHADOW_BAN => SanctionKind::ShadowBan,
                    _ => SanctionKind::Timeout,
                },
                until_ms: time(row.get(5)?),
                by: row.get(6)?,
                why: row.get(7)?,
                at_ms: uint(row.get(8)?),
            })
        })
    }

    /// All revocations.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        let query = "SELECT id, kind, subject, issued_before_ms, until_ms, who, why, at_ms FROM revocation ORDER BY id";
        self.all(query, [], |row| {
            let subject = row.get(2)?;
            Ok(Revocation {
                id: uint(row.get(0)?),
                revoked: match row.get(1)? {
                    TOKEN => Revoked::Token(subject),
                    EVERYONE => Revoked::All,
                    _ => Revoked::User(subject),
                },
                issued_before_ms: time(row.get(3)?),
                until_ms: time(row.get(4)?),
                by: row.get(5)?,
                why: row.get(6)?,
                at_ms: uint(row.get(7)?),
            })
        })
    }

    /// The pins of all rooms.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn pins(&self) -> Result<Vec<(String, Pin)>, StoreError> {
        let query = "SELECT room, epoch, seq, body, until_ms, who, at_ms FROM pin";
        self.all(query, [], |row| {
            let pin = Pin {
                epoch: uint(row.get(1)?),
                seq: uint(row.get(2)?),
                body: row.get(3)?,
                until_ms: time(row.get(4)?),
                by: row.get(5)?,
                at_ms: uint(row.get(6)?),
            };
            Ok((row.get(0)?, pin))
        })
    }

    /// The lists of blocked terms: of which room, and as they were set.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn terms(&self) -> Result<Vec<(Option<String>, String)>, StoreError> {
        self.all("SELECT room, body FROM terms", [], |row| {
            Ok((room(row.get(0)?), row.get(1)?))
        })
    }

    /// The comments of all rooms that wait for a moderator, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn held(&self) -> Result<Vec<Held>, StoreError> {
        let query = "SELECT id, room, body, priority, user, reported, why, at_ms, until_ms FROM held ORDER BY id";
        self.all(query, [], |row| {
            Ok(Held {
                id: uint(row.get(0)?),
                room: row.get(1)?,
                body: row.get(2)?,
                priority: row.get(3)?,
                user: row.get(4)?,
                reported: row.get::<_, Option<i64>>(5)?.map(uint),
                why: row.get(6)?,
                at_ms: uint(row.get(7)?),
                until_ms: uint(row.get(8)?),
            })
        })
    }

    /// The streams of a room, in the order in which they began.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn streams(&self, room: &str) -> Result<Vec<Stream>, StoreError> {
        let query =
            "SELECT id, start_ms, end_ms, title FROM stream WHERE room = ?1 ORDER BY start_ms, id";
        self.all(query, [room], |row| {
            Ok(Stream {
                id: uint(row.get(0)?),
                start_ms: uint(row.get(1)?),
                end_ms: time(row.get(2)?),
                title: row.get(3)?,
            })
        })
    }

    /// A part of the audit trail, newest first. It is bounded, so that a look at all of it takes milliseconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn audit(&self, query: &AuditQuery) -> Result<Vec<Audit>, StoreError> {
        let sql = "SELECT id, at_ms, who, what, room, target, why FROM audit \
             WHERE id < ?1 AND (?2 IS NULL OR room = ?2) AND (?3 IS NULL OR who = ?3 OR target = ?3) \
             ORDER BY id DESC LIMIT ?4";
        let before = query.before.map_or(i64::MAX, int);
        let parameters = params![before, query.room, query.user, query.limit];
        self.all(sql, parameters, |row| {
            Ok(Audit {
                id: uint(row.get(0)?),
                at_ms: uint(row.get(1)?),
                who: row.get(2)?,
                what: row.get(3)?,
                room: room(row.get(4)?),
                target: row.get(5)?,
                why: row.get(6)?,
            })
        })
    }

    /// Calls `each` for a room's samples of [`from_ms`, `to_ms`), in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn samples(
        &self,
        room: &str,
        from_ms: u64,
        to_ms: u64,
        mut each: impl FnMut(Sample),
    ) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT at_ms, likes, viewers FROM sample \
             WHERE room = ?1 AND at_ms >= ?2 AND at_ms < ?3 ORDER BY at_ms",
        )?;
        let mut rows = statement.query(params![room, int(from_ms), int(to_ms)])?;
        while let Some(row) = rows.next()? {
            each(Sample {
                room: String::new(),
                at_ms: uint(row.get(0)?),
                likes: uint(row.get(1)?),
                viewers: row.get(2)?,
            });
        }
        Ok(())
    }

    /// Makes a change, and records it in the audit trail if it was made.
    pub(crate) fn change(
        &self,
        change: &Change,
        audit: Option<&Audit>,
    ) -> Result<Changed, StoreError> {
        let changed = self.make(change)?;
        if let (Ok(_), Some(audit)) = (&changed, audit) {
            self.record(audit)?;
        }
        Ok(changed)
    }

    fn make(&self, change: &Change) -> Result<Changed, StoreError> {
        match change {
            Change::SetSettings(row) => {
                let query = "INSERT OR REPLACE INTO settings (room, body) VALUES (?1, ?2)";
                self.execute(query, params![name(row.room.as_deref()), row.body])?;
            }
            Change::Sanction(sanction) => return self.sanction(sanction),
            Change::LiftSanction { room, id } => {
                let query = "DELETE FROM sanction WHERE id = ?1 AND room = ?2";
                return self.one(query, params![int(*id), name(room.as_deref())]);
            }
            Change::Revoke(revocation) => return self.revoke(revocation),
            Change::LiftRevocation { id } => {
                return self.one("DELETE FROM revocation WHERE id = ?1", [int(*id)]);
            }
            Change::Pin { room, pin } => {
                let _there_was_none = self.unpin(room)?;
                let query = "INSERT INTO pin (room, epoch, seq, body, until_ms, who, at_ms) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                self.execute(
                    query,
                    params![
                        room,
                        int(pin.epoch),
                        int(pin.seq),
                        pin.body,
                        pin.until_ms.map(int),
                        pin.by,
                        int(pin.at_ms)
                    ],
                )?;
            }
            Change::Unpin { room } => return self.unpin(room),
            Change::AddStream { room, stream } => return self.add_stream(room, stream),
            Change::UpdateStream { room, stream } => {
                let query = "UPDATE stream SET start_ms = ?3, end_ms = ?4, title = ?5 \
                     WHERE room = ?1 AND id = ?2";
                let (id, start, end) =
                    (int(stream.id), int(stream.start_ms), stream.end_ms.map(int));
                return self.one(query, params![room, id, start, end, stream.title]);
            }
            Change::AddSamples(samples) => self.add_samples(samples)?,
            Change::SetTerms { room, body } => return self.set_terms(room.as_deref(), body),
            Change::Hold(held) => return self.hold(held),
            Change::Decide { room, id } => {
                let query = "DELETE FROM held WHERE id = ?1 AND room = ?2";
                return self.one(query, params![int(*id), room]);
            }
            Change::Nothing => {}
        }
        Ok(Ok(0))
    }

    fn sanction(&self, sanction: &Sanction) -> Result<Changed, StoreError> {
        let (subject_kind, subject) = match &sanction.subject {
            Subject::User(user) => (USER, user),
            Subject::Address(address) => (ADDRESS, address),
        };
        let kind = match sanction.kind {
            SanctionKind::Timeout => TIMEOUT,
            SanctionKind::Ban => BAN,
            SanctionKind::ShadowBan => SHADOW_BAN,
        };
        let room = name(sanction.room.as_deref());
        let query = "DELETE FROM sanction WHERE room = ?1 AND subject_kind = ?2 AND subject = ?3 AND kind = ?4";
        self.execute(query, params![room, subject_kind, subject, kind])?;
        if self.count("SELECT count(*) FROM sanction", [])? >= SANCTIONS_MAX {
            return Ok(Err(ChangeRefusal::TooMany { max: SANCTIONS_MAX }));
        }
        let query = "INSERT INTO sanction (room, subject_kind, subject, kind, until_ms, who, why, at_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.insert(
            query,
            params![
                room,
                subject_kind,
                subject,
                kind,
                sanction.until_ms.map(int),
                sanction.by,
                sanction.why,
                int(sanction.at_ms)
            ],
        )
    }

    fn revoke(&self, revocation: &Revocation) -> Result<Changed, StoreError> {
        if self.count("SELECT count(*) FROM revocation", [])? >= REVOCATIONS_MAX {
            return Ok(Err(ChangeRefusal::TooMany {
                max: REVOCATIONS_MAX,
            }));
        }
        let (kind, subject) = match &revocation.revoked {
            Revoked::User(user) => (USER, user.as_str()),
            Revoked::Token(token) => (TOKEN, token.as_str()),
            Revoked::All => (EVERYONE, ""),
        };
        let query = "INSERT INTO revocation (kind, subject, issued_before_ms, until_ms, who, why, at_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.insert(
            query,
            params![
                kind,
                subject,
                revocation.issued_before_ms.map(int),
                revocation.until_ms.map(int),
                revocation.by,
                revocation.why,
                int(revocation.at_ms)
            ],
        )
    }

    /// Overwrites the text before it is deleted.
    fn unpin(&self, room: &str) -> Result<Changed, StoreError> {
        let query = "UPDATE pin SET body = zeroblob(length(body)) WHERE room = ?1";
        self.execute(query, [room])?;
        self.one("DELETE FROM pin WHERE room = ?1", [room])
    }

    fn add_stream(&self, room: &str, stream: &Stream) -> Result<Changed, StoreError> {
        let held = self.count("SELECT count(*) FROM stream WHERE room = ?1", [room])?;
        if held >= STREAMS_PER_ROOM_MAX {
            return Ok(Err(ChangeRefusal::TooMany {
                max: STREAMS_PER_ROOM_MAX,
            }));
        }
        let query = "INSERT INTO stream (room, start_ms, end_ms, title) VALUES (?1, ?2, ?3, ?4)";
        let (start, end) = (int(stream.start_ms), stream.end_ms.map(int));
        self.insert(query, params![room, start, end, stream.title])
    }

    fn set_terms(&self, room: Option<&str>, body: &str) -> Result<Changed, StoreError> {
        let room = name(room);
        self.execute("DELETE FROM terms WHERE room = ?1", [room])?;
        if body.is_empty() {
            return Ok(Ok(0));
        }
        if self.count("SELECT count(*) FROM terms", [])? >= TERM_LISTS_MAX {
            return Ok(Err(ChangeRefusal::TooMany {
                max: TERM_LISTS_MAX,
            }));
        }
        let query = "INSERT INTO terms (room, body) VALUES (?1, ?2)";
        self.execute(query, [room, body])?;
        Ok(Ok(0))
    }

    fn hold(&self, held: &Held) -> Result<Changed, StoreError> {
        self.execute("DELETE FROM held WHERE until_ms <= ?1", [int(held.at_ms)])?;
        let query = "SELECT count(*) FROM held WHERE room = ?1";
        if self.count(query, [&held.room])? >= HELD_PER_ROOM_MAX
            || self.count("SELECT count(*) FROM held", [])? >= HELD_MAX
        {
            return Ok(Err(ChangeRefusal::TooMany {
                max: HELD_PER_ROOM_MAX,
            }));
        }
        let query = "INSERT INTO held (room, body, priority, user, reported, why, at_ms, until_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.insert(
            query,
            params![
                held.room,
                held.body,
                held.priority,
                held.user,
                held.reported.map(int),
                held.why,
                int(held.at_ms),
                int(held.until_ms)
            ],
        )
    }

    fn add_samples(&self, samples: &[Sample]) -> Result<(), StoreError> {
        let query = "INSERT INTO sample (room, at_ms, likes, viewers) VALUES (?1, ?2, ?3, ?4)";
        for sample in samples {
            let (at, likes) = (int(sample.at_ms), int(sample.likes));
            self.execute(query, params![sample.room, at, likes, sample.viewers])?;
        }
        Ok(())
    }

    fn record(&self, audit: &Audit) -> Result<(), StoreError> {
        let query = "INSERT INTO audit (at_ms, who, what, room, target, why) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let room = name(audit.room.as_deref());
        let parameters = params![
            int(audit.at_ms),
            audit.who,
            audit.what,
            room,
            audit.target,
            audit.why
        ];
        let last = self.0.prepare_cached(query)?.insert(parameters)?;
        let query = "DELETE FROM audit WHERE id <= ?1";
        self.execute(query, [last - i64::from(AUDIT_MAX)])?;
        Ok(())
    }

    /// Forgets what has ended by `now_ms`, whether or not it was anything.
    pub(crate) fn forget_ended(&self, now_ms: u64) -> Result<bool, StoreError> {
        let mut forgot = 0;
        for query in [
            "DELETE FROM sanction WHERE until_ms <= ?1",
            "DELETE FROM revocation WHERE until_ms <= ?1",
            "DELETE FROM pin WHERE until_ms <= ?1",
            "DELETE FROM held WHERE until_ms <= ?1",
        ] {
            forgot += self.execute(query, [int(now_ms)])?;
        }
        Ok(forgot > 0)
    }

    /// Forgets the oldest samples: those before `before_ms`, and those beyond `samples_max`; a limited number at a time.
    pub(crate) fn forget_samples(
        &self,
        before_ms: u64,
        samples_max: Option<u32>,
    ) -> Result<(), StoreError> {
        let query = "DELETE FROM sample WHERE serial IN \
             (SELECT serial FROM (SELECT serial, at_ms FROM sample ORDER BY serial LIMIT ?2) WHERE at_ms < ?1)";
        self.execute(query, params![int(before_ms), STEP_SAMPLES])?;
        if let Some(max) = samples_max {
            let query = "DELETE FROM sample WHERE serial <= (SELECT max(serial) FROM sample) - ?1";
            self.execute(query, [max])?;
        }
        Ok(())
    }

    fn all<T>(
        &self,
        query: &str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.0.prepare_cached(query)?;
        let rows = statement.query_map(parameters, read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn count(&self, query: &str, parameters: impl Params) -> Result<u32, StoreError> {
        let mut statement = self.0.prepare_cached(query)?;
        let count = statement.query_row(parameters, |row| row.get(0)).optional();
        Ok(count?.unwrap_or(0))
    }

    fn execute(&self, query: &str, parameters: impl Params) -> Result<usize, StoreError> {
        Ok(self.0.prepare_cached(query)?.execute(parameters)?)
    }

    fn insert(&self, query: &str, parameters: impl Params) -> Result<Changed, StoreError> {
        Ok(Ok(uint(self.0.prepare_cached(query)?.insert(parameters)?)))
    }

    /// Changes one row.
    fn one(&self, query: &str, parameters: impl Params) -> Result<Changed, StoreError> {
        let changed = self.execute(query, parameters)?;
        Ok(if changed > 0 {
            Ok(0)
        } else {
            Err(ChangeRefusal::NotFound)
        })
    }
}

fn name(room: Option<&str>) -> &str {
    room.unwrap_or_default()
}

fn room(name: String) -> Option<String> {
    (!name.is_empty()).then_some(name)
}

fn time(value: Option<i64>) -> Option<u64> {
    value.map(uint)
}

const USER: u8 = 0;
const ADDRESS: u8 = 1;
const TOKEN: u8 = 2;
const EVERYONE: u8 = 3;

const TIMEOUT: u8 = 0;
const BAN: u8 = 1;
const SHADOW_BAN: u8 = 2;

/// Sanctions kept; the log holds all of them in memory.
const SANCTIONS_MAX: u32 = 100_000;

/// Revocations kept; the log holds all of them in memory.
const REVOCATIONS_MAX: u32 = 100_000;

/// Streams kept per room.
const STREAMS_PER_ROOM_MAX: u32 = 1_000;

/// Rooms with blocked terms of their own, and the list of all rooms.
const TERM_LISTS_MAX: u32 = 100;

/// Comments of one room that wait for a moderator.
const HELD_PER_ROOM_MAX: u32 = 1_000;

/// Comments of all rooms that wait for a moderator; the log holds all of them in memory.
const HELD_MAX: u32 = 20_000;

/// Entries of the audit trail; the oldest go.
const AUDIT_MAX: u32 = 100_000;

/// Samples forgotten in one step.
const STEP_SAMPLES: u32 = 1_000;
