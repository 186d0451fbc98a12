//! The key figures at the top of the page.

use crate::report::RunReport;
use crate::table::{bytes, bytes_f64, count, figure, rate};

/// One figure.
#[derive(Debug)]
pub(super) struct Tile {
    pub(super) figure: String,
    pub(super) name: String,
    /// What has to be known to read it.
    pub(super) note: Option<String>,
}

/// All key figures of this run.
pub(super) fn tiles(report: &RunReport) -> Vec<Tile> {
    let mut tiles = vec![tile(count(report.connect.viewers), "viewers connected")];
    if report.has_measured() {
        tiles.extend(deliveries(report));
    }
    for event in report.events.iter().filter(|event| !event.is_churn()) {
        let back = event
            .last_back_s
            .map(|seconds| format!("{} s", figure(seconds)));
        let name = format!("last viewer back after the {}", event.what);
        tiles.push(tile(back.unwrap_or_else(|| "not all".to_owned()), &name));
    }
    if let Some(stalled) = &report.ends.stalled {
        let cut = stalled.closes.values().sum::<u64>() + stalled.silent;
        let all = cut + stalled.open;
        tiles.push(tile(
            format!("{} of {}", count(cut), count(all)),
            "slow viewers cut off",
        ));
    }
    tiles.extend(costs(report));
    tiles
}

fn deliveries(report: &RunReport) -> Vec<Tile> {
    let (audit, window_ms) = (&report.audit, report.setup.window_ms);
    let mut tiles = vec![
        tile(count(report.total.frames), "frames delivered"),
        Tile {
            note: (audit.replayed > 0)
                .then(|| format!("{} of them replayed", count(audit.replayed))),
            ..tile(count(audit.delivered), "viewer-comments audited")
        },
        tile(
            count(audit.wrong()),
            "lost, duplicate, reordered or corrupt",
        ),
    ];
    // The judged figure comes first, by stage if viewers stalled.
    for stage in &report.latency {
        if stage.each_viewer.count > 0 {
            let stage_name = match report.latency.len() {
                1 => String::new(),
                _ => format!(", {}", stage.stage),
            };
            let name = format!("post to viewer, p99 beyond the window{stage_name}");
            let ms = figure(stage.each_beyond_window.p99_ms);
            tiles.push(tile(format!("{ms} ms"), &name));
        }
    }
    if let Some(all) = report.distributions.get("post_to_viewer") {
        let summary = all.summary();
        for (ms, name) in [
            (summary.p50_ms, "post to viewer, median"),
            (summary.p99_ms, "post to viewer, p99"),
        ] {
            tiles.push(Tile {
                note: (window_ms > 0)
                    .then(|| format!("includes the window of {} ms", count(window_ms))),
                ..tile(format!("{} ms", figure(ms)), name)
            });
        }
    }
    tiles
}

fn costs(report: &RunReport) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let total = &report.total;
    if total.frames > 0 {
        tiles.push(tile(rate(total.frames_per_s), "frames/s"));
        tiles.push(tile(
            format!("{}/s", bytes_f64(total.bytes_per_s)),
            "payload",
        ));
    }
    if let Some(server) = &report.server {
        if total.frames > 0 {
            let joins = if report.has_joins() {
                ", joins included"
            } else {
                ""
            };
            let name = format!("server CPU per delivered frame{joins}");
            tiles.push(tile(format!("{} µs", figure(server.frame_micros)), &name));
        }
        if let Some(memory) = server.memory {
            tiles.push(tile(
                bytes(memory.resident_bytes),
                "server memory at the end",
            ));
        }
    }
    if let Some(ratio) = report.floor.and_then(|floor| floor.ratio) {
        tiles.push(tile(format!("{ratio:.2} x"), "server CPU / floor"));
    }
    tiles
}

fn tile(figure: String, name: &str) -> Tile {
    Tile {
        figure,
        name: name.to_owned(),
        note: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{faulty_report, sample_report};

    /// The figure and the note of the tile with this name.
    fn shown(report: &RunReport, name: &str) -> (String, Option<String>) {
        let mut tiles = tiles(report).into_iter();
        let tile = tiles.find(|tile| tile.name == name);
        let tile = tile.unwrap_or_else(|| panic!("{name}"));
        (tile.figure, tile.note)
    }

    /// Regression: a single tile showed the worst stage without saying so.
    #[test]
    fn each_stage_of_a_stall_has_its_own_tile() {
        let mut report = sample_report();
        report.latency.push(report.latency[0].clone());
        for (stage, (name, p99_ms)) in report
            .latency
            .iter_mut()
            .zip([("before stall", 1400.0), ("during stall", 9.5)])
        {
            name.clone_into(&mut stage.stage);
            stage.each_beyond_window.p99_ms = p99_ms;
        }
        let name = "post to viewer, p99 beyond the window";
        assert_eq!(
            shown(&report, &format!("{name}, before stall")).0,
            "1,400 ms"
        );
        assert_eq!(
            shown(&report, &format!("{name}, during stall")).0,
            "9.50 ms"
        );
    }

    #[test]
    fn what_a_figure_includes_is_said() {
        let mut report = sample_report();
        report.audit.replayed = 1234;
        let audited = shown(&report, "viewer-comments audited");
        assert_eq!(audited.1.unwrap(), "1,234 of them replayed");
        shown(&report, "server CPU per delivered frame, joins included");
        report.returns = None;
        shown(&report, "server CPU per delivered frame");
        let back = "last viewer back after the storm";
        assert_eq!(shown(&report, back).0, "1.25 s");
        report.events[0].last_back_s = None;
        assert_eq!(shown(&report, back).0, "not all");
        assert_eq!(shown(&faulty_report(), "slow viewers cut off").0, "3 of 6");
    }
}
