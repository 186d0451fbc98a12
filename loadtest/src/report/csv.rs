//! The seconds of a run as CSV, for spreadsheets: one row for each, with the names of the JSON report as columns.

use serde_json::{Map, Value};

use crate::timeline::{Sample, Timeline, Usage};

/// The rows, with a head.
pub(super) fn rows(timeline: &Timeline) -> String {
    // A second that has everything names all columns.
    let full = Sample {
        server: Some(Usage::default()),
        generator: Some(Usage::default()),
        kernel_tcp_bytes: Some(0),
        server_kernel_tcp_bytes: Some(0),
        ..Sample::default()
    };
    let columns: Vec<String> = flat(&full).keys().cloned().collect();
    let mut text = columns.join(",") + "\n";
    for sample in &timeline.samples {
        let sample = flat(sample);
        let cell = |column| {
            sample
                .get(column)
                .map_or_else(String::new, Value::to_string)
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

/// Every number under its path, such as `latency.p99_ms`.
fn flat(sample: &Sample) -> Map<String, Value> {
    fn add(numbers: &mut Map<String, Value>, path: String, value: Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let dot = if path.is_empty() { "" } else { "." };
                    add(numbers, format!("{path}{dot}{name}"), member);
                }
            }
            Value::Null => {}
            number => drop(numbers.insert(path, number)),
        }
    }
    let mut numbers = Map::new();
    let sample = serde_json::to_value(sample).expect("invariant: a sample is JSON");
    add(&mut numbers, String::new(), sample);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_every_column() {
        let sample = |frames, server| Sample {
            t_s: 1.5,
            frames,
            server,
            ..Sample::default()
        };
        let timeline = Timeline {
            samples: vec![sample(7, None), sample(9, Some(Usage::default()))],
            ..Timeline::default()
        };
        let text = rows(&timeline);
        let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split(',').collect()).collect();
        let cell = |row: usize, column: &str| {
            let at = rows[0].iter().position(|name| *name == column).unwrap();
            rows[row][at]
        };
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert_eq!((cell(1, "t_s"), cell(1, "frames")), ("1.5", "7"));
        assert_eq!(cell(1, "latency.p99_ms"), "0.0");
        assert_eq!(cell(1, "server.resident_bytes"), "");
        assert_eq!(cell(2, "server.resident_bytes"), "0");
    }
}
