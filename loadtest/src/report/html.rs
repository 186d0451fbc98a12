//! A run as one page: verdict, figures, charts over time, latency distributions, all tables.
//!
//! The page is self-contained: no scripts, fonts or pictures from elsewhere.

mod date;
mod distribution;
mod grid;
mod over_time;
mod repeat;
mod scenario;
mod slow;
mod tiles;

use std::fmt::Write as _;

use crate::report::RunReport;
use crate::report::chart::Chart;
use crate::report::markup::escape;
use crate::table::{Table, count};

use date::date;
use distribution::distributions;
use over_time::over_time;
use repeat::write_repeat;
use tiles::write_tiles;

const CSS: &str = include_str!("page.css");

/// The page.
pub(super) fn page(report: &RunReport) -> String {
    let setup = &report.setup;
    let what = report.scenario.as_ref().map_or_else(
        || "danmaku-loadtest".to_owned(),
        |scenario| format!("danmaku-loadtest {}", scenario.fields.scenario),
    );
    let title = format!("{what}: {} viewers", count(setup.viewers.into()));
    let tone = match (report.passed, report.partial) {
        (false, _) => "bad",
        // Nothing can have gone wrong.
        (true, false) if report.audit.delivered == 0 => "warn",
        (true, true) => "warn",
        (true, false) => "good",
    };
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{CSS}</style></head><body><h1>{}</h1>",
        escape(&title),
        escape(&title)
    );
    // A run that ended while viewers connected may not know.
    let when = match report.timeline.started_unix_ms {
        0 => String::new(),
        started => format!(" · started {}", date(started)),
    };
    let _ = write!(
        html,
        "<p class=\"soft\">{} · {} {} · {} {}{}</p><p class=\"verdict {tone}\">{}</p>",
        escape(&setup.url),
        count(setup.rooms.into()),
        if setup.rooms == 1 { "room" } else { "rooms" },
        setup.protocol.name(),
        escape(&setup.encodings.join(", ")),
        when,
        escape(&report.verdict)
    );
    let lines = [scenario::step_shown(report), slow::question(report)];
    for line in lines.into_iter().flatten() {
        let _ = write!(html, "<p>{}</p>", escape(&line));
    }
    write_tiles(report, &mut html);
    scenario::write_scenario(report, &mut html);
    section("Over time", &over_time(report), &mut html);
    section("Latency distribution", &distributions(report), &mut html);
    scenario::write_rooms(report, &mut html);
    html.push_str("<h2>All figures</h2><div class=\"tables\">");
    for table in report.figures() {
        write_table(&table, &mut html);
    }
    html.push_str("</div>");
    write_repeat(report, &mut html);
    html.push_str("</body></html>\n");
    html
}

fn section(title: &str, charts: &[Chart], html: &mut String) {
    let charts: Vec<String> = charts.iter().filter_map(Chart::render).collect();
    if !charts.is_empty() {
        let _ = write!(
            html,
            "<h2>{}</h2><div class=\"charts\">{}</div>",
            escape(title),
            charts.concat()
        );
    }
}

/// A table of the terminal as one of the page.
fn write_table(table: &Table, html: &mut String) {
    let columns = table.rows().iter().map(Vec::len).max().unwrap_or_default();
    let _ = write!(
        html,
        "<div class=\"table\"><h3>{}</h3><table>",
        escape(table.title())
    );
    for row in table.rows() {
        let is_head = row.first().is_some_and(String::is_empty);
        html.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let text = escape(cell);
            let _ = match (index, is_head) {
                (_, true) => write!(html, "<th scope=\"col\">{text}</th>"),
                (0, false) => write!(html, "<th scope=\"row\">{text}</th>"),
                _ if row.len() == 2 => write!(
                    html,
                    "<td class=\"prose\" colspan=\"{}\">{text}</td>",
                    columns.saturating_sub(1).max(1)
                ),
                _ => write!(html, "<td>{text}</td>"),
            };
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::report::tests::{faulty_report, sample_report};
    use crate::timeline::Sample;

    #[test]
    fn every_series_is_on_the_page() {
        let page = page(&sample_report());
        for name in [
            "p50",
            "p90",
            "p99",
            "max",
            "Viewers connected",
            "Frames delivered",
            "Comments delivered",
            "Payload delivered",
            "posts acknowledged/s",
            "errors/s",
            "server, user",
            "server, kernel",
            "generator, user + kernel",
            "server, resident",
            "server, anonymous",
            "kernel TCP",
            "generator, resident",
            "Generator lateness",
            "all deliveries",
            "Latency by percentile",
            "post to seal",
            "seal to first viewer",
            "first to last viewer",
            "percent of one CPU",
            "milliseconds",
            "seconds since the first connect",
            "PASS: storm is within all",
            "danmaku-loadtest storm: 500 viewers",
            ">posting</text>",
            ">storm</text>",
            ">drain</text>",
        ] {
            assert!(page.contains(name), "{name}");
        }
        assert!(!page.contains("NaN"));
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
        let evil = "</style><script>alert('x')</script>\"";
        report.setup.url = evil.to_owned();
        report.setup.corpus = evil.to_owned();
        report.setup.command = vec![evil.to_owned()];
        report.verdict = evil.to_owned();
        report.posts.refused.insert(evil.to_owned(), 3);
        report.connect_failures.insert(evil.to_owned(), 3);
        report.ends.faults.insert(evil.to_owned(), 3);
        report.timeline.marks[0].what = evil.to_owned();
        report.events[0].problem = Some(evil.to_owned());
        report.events[0].what = evil.to_owned();
        report.rooms = vec![report.rooms[0].clone(); 2];
        report.rooms[0].room = evil.to_owned();
        if let Some(scenario) = &mut report.scenario {
            scenario.fields.corpus = Some(evil.into());
            scenario.checks[0].what = evil.to_owned();
            scenario.steps[1].failed = vec![evil.to_owned()];
        }
        report.counters = Some([(evil.to_owned(), 5.0)].into());
        let page = page(&report);
        assert!(!page.contains("<script"));
        assert_eq!(page.matches("</style>").count(), 1);
    }

    #[test]
    fn a_run_that_ended_before_posting_has_a_page() {
        let mut report = RunReport::interrupted(sample_report().setup, 17, Clock::start());
        assert!(page(&report).contains(" · started 20"));
        report.timeline.started_unix_ms = 0;
        let page_of = page(&report);
        assert!(page_of.contains("17 of"), "{page_of}");
        assert!(!page_of.contains("1970") && !page_of.contains("lost"));
        assert!(!page_of.contains(" · started"));
        report.timeline.started_unix_ms = 1_767_225_600_000;
        report.timeline.samples.push(Sample::default());
        let page_of = page(&report);
        assert!(page_of.contains(" · started 2026-01-01 00:00:00 UTC"));
        assert!(!page_of.contains("NaN"));
    }
}
