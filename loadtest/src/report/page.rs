//! A run as one page: verdict, key figures, findings, charts, all figures.
//!
//! The page is self-contained: no scripts, fonts or pictures from elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::report::RunReport;
use crate::report::chart::Chart;
use crate::report::charts::{distributions, over_time};
use crate::report::compare::flatten;
use crate::report::scenario::searched;
use crate::report::tiles::tiles;
use crate::spec::Spec;
use crate::table::{Table, bytes};

const CSS: &str = include_str!("page.css");

/// The page.
pub(super) fn page(report: &RunReport) -> String {
    let spec = &report.setup.spec;
    let title = format!("danmaku-loadtest {}: {}", spec.scenario, report.audience());
    let tone = match (report.passed, report.partial) {
        (false, _) => "bad",
        (true, true) => "warn",
        (true, false) => "good",
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(CSS)) }
            }
            body {
                h1 { (title) }
                p.soft { (spec.url) (started(report)) }
                p class={ "verdict " (tone) } { (report.verdict) }
                @if let Some(step) = step_shown(report) { p { (step) } }
                ul.tiles {
                    @for tile in tiles(report) {
                        li {
                            b { (tile.figure) }
                            span { (tile.name) }
                            @if let Some(note) = tile.note { small { (note) } }
                        }
                    }
                }
                (section("Findings", "tables", report.findings().iter().map(table)))
                (section("Over time", "charts", over_time(report).iter().filter_map(Chart::render)))
                (section("Latency distribution", "charts", distributions(report).iter().filter_map(Chart::render)))
                (section("All figures", "tables", report.figures().iter().map(table)))
                (repeat(report))
            }
        }
    }
    .into_string()
}

/// A part of the page; nothing without content.
fn section(title: &str, class: &str, content: impl Iterator<Item = Markup>) -> Markup {
    let content: Vec<Markup> = content.collect();
    html! {
        @if !content.is_empty() {
            h2 { (title) }
            div class=(class) { @for part in content { (part) } }
        }
    }
}

fn table(table: &Table) -> Markup {
    let class = |column| table.has_figures(column).then_some("figure");
    html! {
        div.table {
            h3 { (table.title()) }
            table {
                @if !table.column_heads().is_empty() {
                    thead {
                        tr {
                            @for (column, head) in table.column_heads().iter().enumerate() {
                                th scope="col" class=[class(column)] { (head) }
                            }
                        }
                    }
                }
                @for row in table.rows() {
                    tr class=[tone_of(row.met)] {
                        @for (column, cell) in row.cells.iter().enumerate() {
                            @if column == 0 { th scope="row" { (cell) } }
                            @else { td class=[class(column)] { (cell) } }
                        }
                    }
                }
            }
            @if let Some(note) = table.note_text() { p.note { (note) } }
        }
    }
}

fn tone_of(met: Option<bool>) -> Option<&'static str> {
    met.map(|met| if met { "met" } else { "unmet" })
}

/// When it began. A run that ended while viewers connected may not know.
fn started(report: &RunReport) -> String {
    let since_epoch = Duration::from_millis(report.timeline.started_unix_ms);
    if since_epoch.is_zero() {
        return String::new();
    }
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since_epoch);
    format!(" · started {date}")
}

/// Which step of a search the page shows.
fn step_shown(report: &RunReport) -> Option<String> {
    let scenario = report.scenario.as_ref()?;
    // If none met the limits, the report shows the first.
    let first = scenario.steps.first()?;
    let shown = crate::table::amount(scenario.most.unwrap_or(first.value));
    let what = searched(&report.setup.spec);
    Some(format!(
        "Except for the list of steps, everything here is of the step with {shown} {what}."
    ))
}

/// What it takes to repeat the run: the command, its settings, the versions and the machine.
fn repeat(report: &RunReport) -> Markup {
    let (setup, machine) = (&report.setup, &report.setup.machine);
    // No argument of a process holds a zero byte.
    let command = shlex::try_join(setup.command.iter().map(String::as_str)).unwrap_or_default();
    let defaults = fields_of(&Spec::default());
    let mut fields = fields_of(&setup.spec);
    fields.retain(|name, value| defaults.get(name) != Some(value));
    html! {
        section.keep {
            h2 { "Repeat this run" }
            p { code { (command) } }
            dl.fields {
                @for (name, value) in fields {
                    div { dt { (name) } dd { (value) } }
                }
            }
            p.soft {
                "danmaku-loadtest " (setup.version)
                @if let Some(version) = &setup.server_version { ", danmaku-server " (version) }
                ", seed " (setup.spec.seed) ", report schema " (report.schema) " · "
                (machine.platform) ", kernel " (machine.kernel) ", " (machine.cores) " CPUs"
                @if let Some(cpu) = &machine.cpu { " (" (cpu) ")" }
                @if let Some(memory) = machine.memory_bytes { ", " (bytes(memory)) " memory" }
            }
        }
    }
}

fn fields_of(spec: &Spec) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    flatten(
        "",
        &serde_json::to_value(spec).unwrap_or_default(),
        &mut fields,
    );
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::report::tests::{faulty_report, sample_report};

    /// What a reader sees, one text per line: no tags, and nothing of the style sheet.
    fn texts(report: &RunReport) -> Vec<String> {
        let page = page(report);
        let (_, body) = page.split_once("<body>").unwrap();
        let parts = body
            .split('<')
            .filter_map(|part| Some(part.split_once('>')?.1.trim().to_owned()));
        parts.filter(|text| !text.is_empty()).collect()
    }

    #[test]
    fn everything_is_on_the_page() {
        let texts = texts(&faulty_report());
        for expected in [
            "danmaku-loadtest storm: 500 in 1 room, ws deflate",
            "Frames delivered, over all viewers",
            "Latency by percentile",
            "server, user",
            "generator, user + kernel",
            "kernel TCP, this machine",
            "post to seal",
            "storm",
            "limits of storm",
            "NOT MET",
            "steps of the search",
            "viewers that stopped reading",
            "server counters, change over the run",
            "danmaku-loadtest storm --viewers 500",
            "slo.last_back_s_max",
            "http://127.0.0.1:8080 · started Thu, 01 Jan 2026 00:00:00 GMT",
        ] {
            assert!(
                texts.iter().any(|text| text == expected),
                "{expected}: {texts:#?}"
            );
        }
        assert!(
            texts
                .iter()
                .any(|text| text.starts_with("Except for the list of steps"))
        );
        assert!(texts.iter().all(|text| !text.contains("NaN")));
    }

    #[test]
    fn the_page_is_self_contained() {
        let page = page(&sample_report());
        for word in ["src=", "href=", "@import", "url(", "<script", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let mut report = faulty_report();
        let evil = "</style><script>alert('x')</script>\"".to_owned();
        report.setup.spec.url.clone_from(&evil);
        report.setup.spec.corpus = Some(evil.clone().into());
        report.setup.command = vec![evil.clone()];
        report.verdict.clone_from(&evil);
        report.posts.refused.insert(evil.clone(), 3);
        report.timeline.marks[0].what.clone_from(&evil);
        report.events[0].problem = Some(evil.clone());
        report.rooms = vec![report.rooms[0].clone(); 2];
        report.rooms[0].room.clone_from(&evil);
        report.counters = Some([(evil, 5.0)].into());
        let page = page(&report);
        assert!(!page.contains("<script"));
        assert_eq!(page.matches("</style>").count(), 1);
    }

    #[test]
    fn a_run_that_ended_before_posting_has_a_page() {
        let mut report = RunReport::interrupted(sample_report().setup, 17, Clock::start());
        let said =
            |report: &RunReport, what: &str| texts(report).iter().any(|it| it.contains(what));
        assert!(said(&report, "17 of") && said(&report, " · started "));
        assert!(!said(&report, "lost") && !said(&report, "NaN"));
        report.timeline.started_unix_ms = 0;
        assert!(!said(&report, " · started "));
    }
}
