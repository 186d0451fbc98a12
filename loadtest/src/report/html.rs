//! A run as one page: the verdict, the figures, the run over time, the distribution of latencies, all tables.
//!
//! The page needs nothing but itself: no script, no font, no picture from elsewhere.

mod date;
mod distribution;
mod over_time;
mod scenario;

use std::fmt::Write as _;

use crate::report::RunReport;
use crate::report::chart::Chart;
use crate::report::markup::escape;
use crate::table::{Table, bytes, bytes_f64, count, figure, rate};

use date::date;
use distribution::distributions;
use over_time::over_time;

const CSS: &str = include_str!("page.css");

/// The page.
pub(super) fn page(report: &RunReport) -> String {
    let setup = &report.setup;
    let what = report.scenario.as_ref().map_or_else(
        || "danmaku-loadtest".to_owned(),
        |scenario| format!("danmaku-loadtest {}", scenario.fields.scenario.name()),
    );
    let title = format!("{what}: {} viewers", count(setup.viewers.into()));
    let tone = match (report.passed, report.partial) {
        (false, _) => "bad",
        // There is nothing that could have gone wrong.
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
    let when = match report.timeline.started_unix_ms {
        0 => String::new(),
        started => format!(" · {}", date(started)),
    };
    let _ = write!(
        html,
        "<p class=\"soft\">{} · {} {} · {}{}</p><p class=\"verdict {tone}\">{}</p>",
        escape(&setup.url),
        count(setup.rooms.into()),
        if setup.rooms == 1 { "room" } else { "rooms" },
        escape(&setup.encodings.join(", ")),
        when,
        escape(&report.verdict)
    );
    tiles(report, &mut html);
    scenario::write_scenario(report, &mut html);
    section("Over time", &over_time(report), &mut html);
    section(
        "How the latencies are spread",
        &distributions(report),
        &mut html,
    );
    scenario::write_rooms(report, &mut html);
    html.push_str("<h2>All figures</h2><div class=\"tables\">");
    for table in report.figures() {
        write_table(&table, &mut html);
    }
    html.push_str("</div>");
    repeat(report, &mut html);
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

fn tiles(report: &RunReport, html: &mut String) {
    let audit = &report.audit;
    let mut tiles = vec![(count(report.connect.viewers), "viewers connected")];
    if report.has_measured() {
        tiles.extend([
            (count(report.total.frames), "frames delivered"),
            (count(audit.delivered), "viewer-comments audited"),
            (
                count(audit.wrong()),
                "lost, duplicate, reordered or corrupt",
            ),
        ]);
    }
    if report.total.frames > 0 {
        tiles.push((rate(report.total.frames_per_s), "frames/s"));
        tiles.push((
            format!("{}/s", bytes_f64(report.total.bytes_per_s)),
            "payload",
        ));
    }
    if let Some(histogram) = report.histograms.get("post_to_viewer") {
        let ms = |ms: f64| format!("{} ms", figure(ms));
        tiles.push((ms(histogram.summary.p50_ms), "post to viewer, median"));
        tiles.push((ms(histogram.summary.p99_ms), "post to viewer, p99"));
    }
    if let Some(server) = &report.server {
        if report.total.frames > 0 {
            let cost = format!("{} µs", figure(server.frame_micros));
            tiles.push((cost, "server CPU per delivered frame"));
        }
        if let Some(memory) = server.memory {
            tiles.push((bytes(memory.resident_bytes), "server memory at the end"));
        }
    }
    if let Some(ratio) = report.floor.and_then(|floor| floor.ratio) {
        tiles.push((format!("{ratio:.2} x"), "server CPU over the floor's"));
    }
    html.push_str("<ul class=\"tiles\">");
    for (figure, name) in tiles {
        let _ = write!(
            html,
            "<li><b>{}</b><span>{}</span></li>",
            escape(&figure),
            escape(name)
        );
    }
    html.push_str("</ul>");
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

fn repeat(report: &RunReport, html: &mut String) {
    let setup = &report.setup;
    let machine = &setup.machine;
    let memory = machine.memory_bytes.map_or_else(String::new, |memory| {
        format!(", {} of memory", bytes(memory))
    });
    let cpu = machine
        .cpu
        .as_ref()
        .map_or_else(String::new, |cpu| format!(" ({cpu})"));
    let server = setup
        .server_version
        .as_ref()
        .map_or_else(String::new, |version| format!(", danmaku-server {version}"));
    let _ = write!(
        html,
        "<h2>To repeat it</h2><p><code>{}</code></p>\
         <p class=\"soft\">danmaku-loadtest {}{}, seed {}, report schema {} · {}, kernel {}, {} CPUs{}{}</p>",
        escape(&setup.command.join(" ")),
        escape(&setup.version),
        escape(&server),
        setup.seed,
        report.schema,
        escape(&machine.platform),
        escape(&machine.kernel),
        machine.cores,
        escape(&cpu),
        escape(&memory)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
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
            "How late the generator posted",
            "every delivery",
            "Latency by percentile",
            "post to seal",
            "seal to first viewer",
            "first to last viewer",
            "percent of one CPU",
            "milliseconds",
            "seconds since the first dial",
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
    fn the_page_needs_nothing_from_elsewhere() {
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
        report.rooms = vec![report.rooms[0].clone(); 2];
        report.rooms[0].room = evil.to_owned();
        if let Some(scenario) = &mut report.scenario {
            scenario.checks[0].what = evil.to_owned();
            scenario.steps[1].failed = vec![evil.to_owned()];
        }
        report.counters = Some([(evil.to_owned(), 5.0)].into());
        let page = page(&report);
        assert!(!page.contains("<script"));
        assert_eq!(page.matches("</style>").count(), 1);
    }

    #[test]
    fn a_run_that_was_ended_before_it_began_has_a_page_too() {
        let mut report = RunReport::interrupted(sample_report().setup, 17);
        let page_of = page(&report);
        assert!(page_of.contains("17 of"), "{page_of}");
        assert!(!page_of.contains("1970") && !page_of.contains("lost"));
        report.timeline.samples.push(Sample::default());
        assert!(!page(&report).contains("NaN"));
    }
}
