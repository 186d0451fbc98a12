//! Scenarios: what to run and its limits, as fields of a TOML file. The built-in files in `loadtest/scenarios/` are the
//! defaults and say what each field means; a file of your own, or `--set`, changes some of them.

mod bisection;
mod slo;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::HarnessError;
use crate::random::Random;

pub use bisection::Bisection;
pub use slo::{Bound, Check, Evidence, Habit, LATENESS_P99_MS_MAX, Slo, memory_mib_per_hour};

/// The kinds of scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One room that fills while people write.
    HotRoom,
    /// Viewers over many rooms by a Zipf law.
    ManyRooms,
    /// Everyone reconnects at once.
    Storm,
    /// A share reads slowly or not at all.
    SlowViewers,
    /// The rate rises and falls.
    Burst,
    /// Viewers leave and join all the time.
    Churn,
    /// Hours, for the slope of the memory.
    Soak,
    /// The server stops and comes back.
    Restart,
    /// The server is killed at random moments and comes back.
    Crash,
    /// The highest value within the limits.
    Search,
}

/// What the search varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Searched {
    /// Viewers.
    Viewers,
    /// Comments a second.
    Rate,
}

/// A scenario with all its fields. The built-in files describe them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field is described in the shipped files")]
pub struct Spec {
    pub scenario: Kind,
    pub viewers: u32,
    #[serde(default = "one")]
    pub rooms: u32,
    #[serde(default)]
    pub zipf: f64,
    pub ramp_per_second: Option<f64>,
    pub encodings: String,
    pub duration_s: u64,
    pub drain_s: u64,
    pub rate: f64,
    pub speed: f64,
    pub seed: u64,
    pub corpus: String,
    pub late_ms: u64,
    #[serde(default)]
    pub storm_at_s: u64,
    #[serde(default)]
    pub slow_percent: f64,
    #[serde(default)]
    pub slow_after_s: u64,
    #[serde(default)]
    pub slow_bytes_per_second: u32,
    #[serde(default)]
    pub burst_factor: f64,
    #[serde(default)]
    pub churn_per_second: f64,
    #[serde(default)]
    pub warm_up_s: u64,
    #[serde(default)]
    pub restart_at_s: u64,
    #[serde(default)]
    pub crashes: u32,
    #[serde(default)]
    pub start: String,
    pub search: Option<Searched>,
    #[serde(default)]
    pub from: f64,
    #[serde(default)]
    pub to: f64,
    #[serde(default)]
    pub precision_percent: f64,
    pub slo: Slo,
}

/// A slope per hour is fitted to at least this many seconds.
const SLOPE_S_MIN: u64 = 60;

/// The largest `crashes`.
const CRASHES_MAX: u32 = 10_000;

const fn one() -> u32 {
    1
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::HotRoom,
        Self::ManyRooms,
        Self::Storm,
        Self::SlowViewers,
        Self::Burst,
        Self::Churn,
        Self::Soak,
        Self::Restart,
        Self::Crash,
        Self::Search,
    ];

    /// As the command and the file call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HotRoom => "hot-room",
            Self::ManyRooms => "many-rooms",
            Self::Storm => "storm",
            Self::SlowViewers => "slow-viewers",
            Self::Burst => "burst",
            Self::Churn => "churn",
            Self::Soak => "soak",
            Self::Restart => "restart",
            Self::Crash => "crash",
            Self::Search => "search",
        }
    }

    /// The built-in file.
    pub(crate) const fn shipped(self) -> &'static str {
        match self {
            Self::HotRoom => include_str!("../scenarios/hot-room.toml"),
            Self::ManyRooms => include_str!("../scenarios/many-rooms.toml"),
            Self::Storm => include_str!("../scenarios/storm.toml"),
            Self::SlowViewers => include_str!("../scenarios/slow-viewers.toml"),
            Self::Burst => include_str!("../scenarios/burst.toml"),
            Self::Churn => include_str!("../scenarios/churn.toml"),
            Self::Soak => include_str!("../scenarios/soak.toml"),
            Self::Restart => include_str!("../scenarios/restart.toml"),
            Self::Crash => include_str!("../scenarios/crash.toml"),
            Self::Search => include_str!("../scenarios/search.toml"),
        }
    }
}

impl Kind {
    /// Whether the server is meant to go down meanwhile.
    #[must_use]
    pub const fn restarts_server(self) -> bool {
        matches!(self, Self::Restart | Self::Crash)
    }

    /// The fields of the built-in file with their defaults.
    ///
    /// # Panics
    /// Never: a test parses every built-in file.
    #[must_use]
    pub fn fields(self) -> Table {
        let shipped = self.shipped().parse();
        shipped.expect("invariant: a test parses every shipped file")
    }
}

impl Spec {
    /// A built-in scenario with `key=value` settings.
    ///
    /// # Errors
    /// A field it does not have, or a value that does not fit.
    pub fn shipped(kind: Kind, settings: &[String]) -> Result<Self, HarnessError> {
        Self::build(kind, Table::new(), settings)
    }

    /// A scenario of the operator's own, with settings.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML or names no scenario; as [`Spec::shipped`].
    pub fn read(path: &Path, settings: &[String]) -> Result<Self, HarnessError> {
        let text = std::fs::read_to_string(path).map_err(|source| HarnessError::File {
            path: path.to_owned(),
            source,
        })?;
        let named = |what: &str| HarnessError::Flags(format!("{}: {what}", path.display()));
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| {
                1 + text[..span.start.min(text.len())].matches('\n').count()
            });
            named(&format!("line {line}: {}", error.message()))
        })?;
        let name = table.remove("scenario");
        let name = name.as_ref().and_then(Value::as_str);
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| Some(kind.name()) == name)
            .ok_or_else(|| {
                let names = Kind::ALL.map(Kind::name).join(", ");
                named(&format!("`scenario` must be one of {names}"))
            })?;
        Self::build(kind, table, settings).map_err(|error| named(&error.to_string()))
    }

    fn build(kind: Kind, own: Table, settings: &[String]) -> Result<Self, HarnessError> {
        let mut fields = kind.fields();
        let mut changes = own;
        for setting in settings {
            set(&mut changes, setting)?;
        }
        merge(&mut fields, changes, kind, "")?;
        let spec: Self = fields
            .try_into()
            .map_err(|error: toml::de::Error| HarnessError::Flags(unfit(&error.to_string())))?;
        spec.check()?;
        Ok(spec)
    }

    /// Viewers that read slowly or not at all.
    #[must_use]
    pub fn slow_viewers(&self) -> f64 {
        (self.slow_percent / 100.0 * f64::from(self.viewers)).round()
    }

    /// When the server is stopped or killed, in the measured interval.
    #[must_use]
    pub fn restarts(&self) -> Vec<Duration> {
        if self.scenario == Kind::Restart {
            return vec![Duration::from_secs(self.restart_at_s)];
        }
        let mut random = Random::new(self.seed);
        let stretch_s = self.duration_s as f64 / f64::from(self.crashes);
        (0..self.crashes)
            .map(|number| (f64::from(number) + random.unit()) * stretch_s)
            .map(Duration::from_secs_f64)
            .collect()
    }

    /// Whether so many viewers are dialled before the measured interval ends.
    fn ramps_in_time(&self, viewers: f64) -> bool {
        self.ramp_per_second
            .is_none_or(|per_second| viewers / per_second < self.duration_s as f64)
    }

    fn check(&self) -> Result<(), HarnessError> {
        if let Some(name) = self.slo.odd_limit() {
            let text = format!("slo.{name} must be 0 or more");
            return Err(HarnessError::Flags(text));
        }
        let wrong = |what: &str| Err(HarnessError::Flags(what.to_owned()));
        let within = |at_s: u64| at_s < self.duration_s;
        match self.scenario {
            Kind::Storm if !within(self.storm_at_s) => wrong(&format!(
                "storm_at_s {} must be below duration_s {}",
                self.storm_at_s, self.duration_s
            )),
            Kind::Restart if !within(self.restart_at_s) => wrong(&format!(
                "restart_at_s {} must be below duration_s {}",
                self.restart_at_s, self.duration_s
            )),
            Kind::Restart | Kind::Crash if self.start.trim().is_empty() => wrong(&format!(
                "{} needs the command that starts the server: --set start=\"…\"",
                self.scenario.name()
            )),
            Kind::Crash if !(1..=CRASHES_MAX).contains(&self.crashes) => {
                wrong(&format!("crashes must be between 1 and {CRASHES_MAX}"))
            }
            Kind::SlowViewers if !(self.slow_percent > 0.0 && self.slow_percent < 100.0) => wrong(
                "slow_percent must be above 0 and below 100: there must be slow viewers and others",
            ),
            Kind::SlowViewers if self.slow_viewers() < 1.0 => {
                wrong("slow_percent of so few viewers rounds to none")
            }
            Kind::Burst if !(1.0..=1000.0).contains(&self.burst_factor) => {
                wrong("burst_factor must be between 1 and 1000")
            }
            Kind::Churn if !(self.churn_per_second > 0.0 && self.churn_per_second <= 1e6) => {
                wrong("churn_per_second must be above 0 and at most 1000000")
            }
            Kind::ManyRooms if !(0.0..=10.0).contains(&self.zipf) => {
                wrong("zipf must be between 0 and 10")
            }
            Kind::Soak if self.duration_s < self.warm_up_s.saturating_add(SLOPE_S_MIN) => {
                wrong(&format!(
                    "duration_s {} must exceed warm_up_s {} by a minute: less says nothing about an hour",
                    self.duration_s, self.warm_up_s
                ))
            }
            Kind::HotRoom if !self.ramps_in_time(f64::from(self.viewers)) => {
                wrong("ramp_per_second is too low for all viewers to connect within duration_s")
            }
            Kind::Search
                if !(self.from >= 1.0 && self.to >= self.from && self.precision_percent > 0.0) =>
            {
                wrong("search needs 1 <= from <= to and precision_percent above 0")
            }
            _ => Ok(()),
        }
    }
}

/// What is wrong with the type of a field, in one line; most of them are whole numbers.
fn unfit(said: &str) -> String {
    let text = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((what, field)) = text.split_once(", expected u") else {
        return text;
    };
    let is = what.split('`').nth(1).unwrap_or(what);
    let name = field.split('`').nth(1).unwrap_or("a field");
    format!("`{name}` must be a whole number of 0 or more, not {is}")
}

/// Sets `key=value`; `slo.key` is a field of the verdict. What is not a TOML value is text.
fn set(changes: &mut Table, setting: &str) -> Result<(), HarnessError> {
    let Some((key, value)) = setting.split_once('=') else {
        return Err(HarnessError::Flags(format!(
            "--set {setting}: not key=value"
        )));
    };
    let value = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    match key.split_once('.') {
        None => {
            changes.insert(key.to_owned(), value);
        }
        Some((outer, inner)) => {
            let table = changes
                .entry(outer)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(table) = table {
                table.insert(inner.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// The value for a text field. One that looks like a number or boolean, as in start=false, is still text.
fn as_text(value: Value, key: &str) -> Result<String, HarnessError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Boolean(value) => Ok(value.to_string()),
        Value::Integer(value) => Ok(value.to_string()),
        Value::Float(value) => Ok(value.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(HarnessError::Flags(format!("`{key}` is a string")))
        }
    }
}

/// Applies changes to existing fields.
fn merge(fields: &mut Table, changes: Table, kind: Kind, inside: &str) -> Result<(), HarnessError> {
    for (key, change) in changes {
        let names = fields.keys().filter(|name| *name != "scenario");
        let names = names.cloned().collect::<Vec<_>>().join(", ");
        match (fields.get_mut(&key), change) {
            (Some(Value::Table(field)), Value::Table(change)) => {
                merge(field, change, kind, &format!("{key}."))?;
            }
            (Some(Value::String(text)), change) if key != "scenario" => {
                *text = as_text(change, &key)?;
            }
            (Some(Value::Table(_)), _) => {
                let text = format!("`{key}` has fields of its own: {key}.NAME=value");
                return Err(HarnessError::Flags(text));
            }
            (Some(field @ (Value::Integer(_) | Value::Float(_))), change) => {
                if let Value::String(text) = &change {
                    let text =
                        format!("`{inside}{key}` must be a number below 2^63, not \"{text}\"");
                    return Err(HarnessError::Flags(text));
                }
                *field = change;
            }
            (Some(field), change) if key != "scenario" => *field = change,
            _ => {
                let text = format!(
                    "`{inside}{key}` is not a field of {}; the fields are {names}",
                    kind.name()
                );
                return Err(HarnessError::Flags(text));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: Kind, setting: &str) -> String {
        let text = Spec::shipped(kind, &[setting.to_owned()])
            .unwrap_err()
            .to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    #[test]
    fn every_built_in_file_is_complete() {
        for kind in Kind::ALL {
            let settings = ["start=./server".to_owned()];
            let settings = if kind.restarts_server() {
                &settings[..]
            } else {
                &[]
            };
            let spec = Spec::shipped(kind, settings).unwrap();
            assert_eq!(spec.scenario, kind);
        }
    }

    #[test]
    fn settings_replace_fields_and_keep_the_rest() {
        let settings = [
            "viewers=7",
            "rate=3",
            "encodings=gzip",
            "slo.p99_beyond_window_ms=9",
        ]
        .map(str::to_owned);
        let spec = Spec::shipped(Kind::HotRoom, &settings).unwrap();
        assert_eq!((spec.viewers, spec.encodings.as_str()), (7, "gzip"));
        assert!((spec.rate - 3.0).abs() < 1e-9 && spec.duration_s == 30);
        assert!((spec.slo.p99_beyond_window_ms - 9.0).abs() < 1e-9);
        // The built-in file has a whole number here.
        let fine = Spec::shipped(Kind::HotRoom, &["slo.p99_beyond_window_ms=62.5".to_owned()]);
        assert!((fine.unwrap().slo.p99_beyond_window_ms - 62.5).abs() < 1e-9);
        let restart = Spec::shipped(Kind::Restart, &["start=false".to_owned()]).unwrap();
        assert_eq!(restart.start, "false");
    }

    #[test]
    fn invalid_settings_get_one_clear_line() {
        assert!(
            refused(Kind::HotRoom, "viewerz=1").contains("`viewerz` is not a field of hot-room")
        );
        assert!(refused(Kind::HotRoom, "slo.p98=1").contains("`slo.p98`"));
        // A field of another scenario.
        assert!(refused(Kind::HotRoom, "storm_at_s=1").contains("`storm_at_s`"));
        assert!(refused(Kind::HotRoom, "viewers").contains("key=value"));
        assert!(refused(Kind::HotRoom, "viewers=5k").contains("`viewers` must be a number"));
        assert!(refused(Kind::HotRoom, "seed=18446744073709551615").contains("`seed`"));
        assert!(refused(Kind::HotRoom, "rate=fast").contains("`rate` must be a number"));
        assert!(refused(Kind::HotRoom, "slo=5").contains("slo.NAME"));
        assert!(refused(Kind::HotRoom, "viewers=60000").contains("ramp_per_second"));
        assert!(refused(Kind::Soak, "duration_s=930").contains("warm_up_s"));
        for (odd, said) in [("5.5", "not 5.5"), ("-1", "not -1"), ("true", "not true")] {
            let text = refused(Kind::HotRoom, &format!("viewers={odd}"));
            assert!(
                text.contains("`viewers` must be a whole number") && text.contains(said),
                "{text}"
            );
        }
        for odd in ["nan", "inf", "-1"] {
            let setting = format!("slo.late_percent_max={odd}");
            assert!(refused(Kind::HotRoom, &setting).contains("slo.late_percent_max"));
        }
        // No viewer would be slow, and the verdict would be that none noticed.
        assert!(refused(Kind::SlowViewers, "viewers=4").contains("slow_percent"));
        let _ = refused(Kind::Storm, "storm_at_s=5000");
        let _ = refused(Kind::Restart, "viewers=1");
        let _ = refused(Kind::Crash, "viewers=1");
        let _ = refused(Kind::HotRoom, "scenario=storm");
    }
}
