//! The key figures at the top of the page.

use std::fmt::Write as _;

use crate::limits::Check;
use crate::report::RunReport;
use crate::report::markup::escape;
use crate::table::{bytes, bytes_f64, count, figure, rate};

use super::slow::{beyond_by_stage, cut_off};

/// One figure.
struct Tile {
    figure: String,
    name: String,
    /// A note needed to judge it, such as its limit.
    note: Option<String>,
    /// Whether its limit is met, if it has one.
    met: Option<bool>,
}

/// All key figures of this run.
pub(super) fn write_tiles(report: &RunReport, html: &mut String) {
    let mut tiles = vec![Tile::new(
        count(report.connect.viewers),
        "viewers connected",
    )];
    tiles.extend(audited(report));
    tiles.extend(latencies(report));
    tiles.extend(backs(report));
    tiles.extend(slow(report));
    tiles.extend(costs(report));
    html.push_str("<ul class=\"tiles\">");
    for tile in &tiles {
        tile.write(html);
    }
    html.push_str("</ul>");
}

fn audited(report: &RunReport) -> Vec<Tile> {
    if !report.has_measured() {
        return Vec::new();
    }
    let audit = &report.audit;
    let replayed =
        (audit.replayed > 0).then(|| format!("{} of them replayed", count(audit.replayed)));
    vec![
        Tile::new(count(report.total.frames), "frames delivered"),
        Tile {
            note: replayed,
            ..Tile::new(count(audit.delivered), "viewer-comments audited")
        },
        Tile::new(
            count(audit.wrong()),
            "lost, duplicate, reordered or corrupt",
        ),
    ]
}

/// The judged figure comes first; the others mostly show the length of the window.
fn latencies(report: &RunReport) -> Vec<Tile> {
    let ms = |ms: f64| format!("{} ms", figure(ms));
    let p99 = |name: &str| {
        let histogram = report.histograms.get(name)?;
        Some(histogram.summary.p99_ms)
    };
    let mut tiles = Vec::new();
    if p99("post_to_viewer").is_some() {
        tiles.extend(beyond(report, p99("post_to_viewer_beyond_window")));
    }
    if let Some(histogram) = report.histograms.get("post_to_viewer") {
        let note = match report.setup.window_ms {
            0 => None,
            window_ms => Some(format!("includes the window of {} ms", count(window_ms))),
        };
        for (value, name) in [
            (histogram.summary.p50_ms, "post to viewer, median"),
            (histogram.summary.p99_ms, "post to viewer, p99"),
        ] {
            tiles.push(Tile {
                note: note.clone(),
                ..Tile::new(ms(value), name)
            });
        }
    }
    tiles
}

/// The judged latency, by stage if viewers were slowed; the limit applies to the worst stage.
fn beyond(report: &RunReport, of_all: Option<f64>) -> Vec<Tile> {
    let name = "post to viewer, p99 beyond the window";
    let check = check(report, "p99 beyond the window, ms");
    let tile = |ms: f64, name: &str| Tile::new(format!("{} ms", figure(ms)), name);
    let stages = beyond_by_stage(report);
    if stages.is_empty() {
        let ms = check.and_then(|check| check.value).or(of_all);
        let tile = ms.map(|ms| tile(ms, name).held_against(check, "ms"));
        return tile.into_iter().collect();
    }
    stages
        .into_iter()
        .map(|(stage, ms)| {
            let check = check.map(|check| Check {
                met: check.met || ms <= check.limit,
                ..check.clone()
            });
            tile(ms, &format!("{name}, {stage}")).held_against(check.as_ref(), "ms")
        })
        .collect()
}

/// When the last viewer was back after each disruption of all viewers.
fn backs(report: &RunReport) -> Vec<Tile> {
    let check = check(report, "the last viewer is back, s");
    let gone = report.events.iter().filter(|event| !event.is_churn());
    gone.map(|event| {
        let back = event.last_back_s.map_or_else(
            || "not all".to_owned(),
            |seconds| format!("{} s", figure(seconds)),
        );
        let name = format!("last viewer back after the {}", event.what);
        Tile::new(back, &name).held_against(check, "s")
    })
    .collect()
}

fn slow(report: &RunReport) -> Option<Tile> {
    let (cut, all) = cut_off(report.ends.stalled.as_ref()?);
    let name = "slow viewers cut off";
    (all > 0).then(|| Tile::new(format!("{} of {}", count(cut), count(all)), name))
}

fn costs(report: &RunReport) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let total = &report.total;
    if total.frames > 0 {
        let payload = format!("{}/s", bytes_f64(total.bytes_per_s));
        tiles.push(Tile::new(rate(total.frames_per_s), "frames/s"));
        tiles.push(Tile::new(payload, "payload"));
    }
    if let Some(server) = &report.server {
        if total.frames > 0 {
            let cost = format!("{} µs", figure(server.frame_micros));
            let mut name = "server CPU per delivered frame".to_owned();
            if report.has_joins() {
                name.push_str(", joins included");
            }
            tiles.push(Tile::new(cost, &name));
        }
        if let Some(memory) = server.memory {
            let resident = bytes(memory.resident_bytes);
            tiles.push(Tile::new(resident, "server memory at the end"));
        }
    }
    if let Some(ratio) = report.floor.and_then(|floor| floor.ratio) {
        let ratio = format!("{ratio:.2} x");
        tiles.push(Tile::new(ratio, "server CPU / floor"));
    }
    tiles
}

fn check<'a>(report: &'a RunReport, what: &str) -> Option<&'a Check> {
    let checks = &report.scenario.as_ref()?.checks;
    checks.iter().find(|check| check.what == what)
}

impl Tile {
    fn new(figure: String, name: &str) -> Self {
        Self {
            figure,
            name: name.to_owned(),
            note: None,
            met: None,
        }
    }

    fn held_against(self, check: Option<&Check>, unit: &str) -> Self {
        Self {
            note: check.map(|check| {
                let met = if check.met { "" } else { ": NOT MET" };
                format!("limit: {} {unit}{met}", check.allowed())
            }),
            met: check.map(|check| check.met),
            ..self
        }
    }

    fn write(&self, html: &mut String) {
        let class = match self.met {
            None => "",
            Some(true) => " class=\"within\"",
            Some(false) => " class=\"beyond\"",
        };
        let _ = write!(
            html,
            "<li{class}><b>{}</b><span>{}</span>",
            escape(&self.figure),
            escape(&self.name)
        );
        if let Some(note) = &self.note {
            let _ = write!(html, "<small>{}</small>", escape(note));
        }
        html.push_str("</li>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Summary;
    use crate::report::tests::{faulty_report, sample_report};
    use crate::report::{Histogram, StageReport};

    fn written(report: &RunReport) -> String {
        let mut html = String::new();
        write_tiles(report, &mut html);
        html
    }

    /// A report with a 99th percentile of 12 ms beyond the window, and 40 ms in its worst stage.
    fn judged(met: bool) -> RunReport {
        let mut report = sample_report();
        let mut beyond = Histogram::default();
        beyond.summary.p99_ms = 12.0;
        let name = "post_to_viewer_beyond_window".to_owned();
        report.histograms.insert(name, beyond);
        let checks = &mut report.scenario.as_mut().unwrap().checks;
        for check in checks.iter_mut() {
            if check.what.starts_with("p99 beyond") {
                (check.value, check.met) = (Some(40.0), met);
            }
        }
        report
    }

    #[test]
    fn judged_figures_have_a_tile_with_their_limit() {
        let mut report = judged(true);
        let page = written(&report);
        let tile = "<li class=\"within\"><b>40.0 ms</b><span>post to viewer, p99 beyond the window</span>\
                    <small>limit: at most 1,000 ms</small></li>";
        assert!(page.contains(tile), "{page}");
        assert!(written(&judged(false)).contains("1,000 ms: NOT MET"));
        report.scenario = None;
        let page = written(&report);
        assert!(page.contains("<li><b>12.0 ms</b>"), "{page}");
        assert!(!page.contains("limit"));
    }

    /// Regression: the tile showed the worst stage without saying so, beside a histogram of all.
    #[test]
    fn each_stage_of_a_stall_has_its_own_tile() {
        let mut report = judged(false);
        report.ends.stalled = faulty_report().ends.stalled;
        report.latency = [1400.0, 9.5]
            .map(|p99_ms| StageReport {
                each_beyond_window: Summary {
                    count: 5,
                    p99_ms,
                    ..Summary::default()
                },
                ..StageReport::default()
            })
            .into();
        let page = written(&report);
        for tile in [
            "<li class=\"beyond\"><b>1,400 ms</b><span>post to viewer, p99 beyond the window, before the stall</span>\
             <small>limit: at most 1,000 ms: NOT MET</small>",
            "<li class=\"within\"><b>9.50 ms</b><span>post to viewer, p99 beyond the window, during the stall</span>\
             <small>limit: at most 1,000 ms</small>",
        ] {
            assert!(page.contains(tile), "{tile}: {page}");
        }
        assert!(!page.contains("beyond the window</span>"));
    }

    #[test]
    fn the_cost_of_a_frame_says_if_it_includes_joins() {
        let mut report = sample_report();
        assert!(written(&report).contains("per delivered frame, joins included<"));
        report.returns = None;
        assert!(written(&report).contains("per delivered frame<"));
        report.connect.seconds = 0.0;
        assert!(written(&report).contains("joins included<"));
    }

    #[test]
    fn the_return_of_the_last_viewer_has_a_tile() {
        let mut report = sample_report();
        let page = written(&report);
        assert!(
            page.contains("<b>1.25 s</b><span>last viewer back after the storm</span><small>limit: at most 10 s"),
            "{page}"
        );
        report.events[0].last_back_s = None;
        assert!(written(&report).contains("<b>not all</b>"));
        report.events[0].what = "churn".to_owned();
        assert!(!written(&report).contains("last viewer back"));
    }

    #[test]
    fn replays_and_cut_off_viewers_are_shown_if_there_were_any() {
        let mut report = sample_report();
        let page = written(&report);
        assert!(!page.contains("replayed") && !page.contains("cut off"));
        report.audit.replayed = 1234;
        assert!(written(&report).contains("1,234 of them replayed"));
        let page = written(&faulty_report());
        assert!(
            page.contains("<b>3 of 6</b><span>slow viewers cut off"),
            "{page}"
        );
    }
}
