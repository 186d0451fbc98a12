//! What it takes to repeat the run: the command, the scenario's fields, the versions and the machine.

use std::fmt::Write as _;

use serde_json::Value;

use crate::report::RunReport;
use crate::report::markup::escape;
use crate::spec::Spec;
use crate::table::bytes;

/// A field of a scenario.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    name: String,
    value: String,
    /// The built-in value, where it is another.
    shipped: Option<String>,
}

/// Letters of a field, its name and its values, that a column holds in one line. One with more has a row of its own.
const LETTERS_MAX: usize = 36;

/// The part of the page.
pub(super) fn write_repeat(report: &RunReport, html: &mut String) {
    let setup = &report.setup;
    html.push_str("<section class=\"keep\"><h2>Repeat this run</h2>");
    if !setup.command.is_empty() {
        let _ = write!(
            html,
            "<p><code>{}</code></p>",
            escape(&shell(&setup.command))
        );
    }
    if let Some(scenario) = &report.scenario {
        write_fields(&scenario.fields, html);
    }
    let machine = &setup.machine;
    let memory = machine
        .memory_bytes
        .map_or_else(String::new, |memory| format!(", {} memory", bytes(memory)));
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
        "<p class=\"soft\">danmaku-loadtest {}{}, seed {}, report schema {} · {}, kernel {}, {} CPUs{}{}</p></section>",
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

fn write_fields(spec: &Spec, html: &mut String) {
    let _ = write!(
        html,
        "<h3>Fields of {}</h3><dl class=\"fields\">",
        escape(&spec.scenario)
    );
    for field in fields(spec) {
        write_field(&field, html);
    }
    html.push_str("</dl>");
}

fn write_field(field: &Field, html: &mut String) {
    let shipped = field.shipped.as_ref();
    let shipped = shipped.map_or_else(String::new, |shipped| format!("shipped: {shipped}"));
    let letters = [&field.name, &field.value, &shipped].map(|text| text.chars().count());
    let is_long = letters.iter().sum::<usize>() > LETTERS_MAX;
    let class = if is_long { " class=\"long\"" } else { "" };
    let value = if is_long {
        whole_words(&field.value)
    } else {
        escape(&field.value)
    };
    let _ = write!(
        html,
        "<div{class}><dt>{}</dt><dd>{value}",
        escape(&field.name)
    );
    if !shipped.is_empty() {
        let _ = write!(html, " <small>{}</small>", escape(&shipped));
    }
    html.push_str("</dd></div>");
}

/// Words that a browser does not break at their hyphens.
fn whole_words(text: &str) -> String {
    let words = text.split(' ');
    let words: Vec<String> = words
        .map(|word| format!("<span>{}</span>", escape(word)))
        .collect();
    words.join(" ")
}

/// The fields that differ from the defaults, or from what the scenario's file says.
fn fields(spec: &Spec) -> Vec<Field> {
    let value = |spec: &Spec| serde_json::to_value(spec).unwrap_or_default();
    let (is, default) = (value(spec), value(&Spec::default()));
    let shipped = Spec::shipped(&spec.scenario).map_or_else(|_| default.clone(), |it| value(&it));
    let mut fields = Vec::new();
    let of_slo = (&is["slo"], &shipped["slo"], &default["slo"]);
    for (prefix, (is, shipped, default)) in [("", (&is, &shipped, &default)), ("slo.", of_slo)] {
        for (name, value) in is.as_object().into_iter().flatten() {
            if value.is_object()
                || name == "scenario"
                || [shipped, default].iter().all(|it| it[name] == *value)
            {
                continue;
            }
            let (value, shipped) = (written(value), written(&shipped[name]));
            fields.push(Field {
                name: format!("{prefix}{name}"),
                shipped: (shipped != value).then_some(shipped),
                value,
            });
        }
    }
    fields
}

/// A value as `--set` takes it. A whole number is the same with and without a point.
fn written(value: &Value) -> String {
    match value {
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), |value| value.to_string()),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A command as a POSIX shell reads it, in one line that can be pasted.
fn shell(command: &[String]) -> String {
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A word of a command, in single quotes where a shell would see more in it than itself (POSIX, Shell Command Language, 2.2).
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_@%+=:,./-".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    // Nothing is special within single quotes but their end.
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::report::tests::sample_report;

    #[test]
    fn only_words_that_need_it_are_quoted() {
        for (word, expected) in [
            ("--set", "--set"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("viewers=500", "viewers=500"),
            ("start=./x --listen y", "'start=./x --listen y'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("~", "'~'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    /// Regression: `--set start=./x --listen y` was printed unquoted, so the command could not be pasted.
    #[test]
    fn a_shell_reads_the_original_words() {
        let words = [
            "printf",
            r"%s\n",
            "start=./x --listen y >>log 2>&1",
            "'it''s'",
            "\"$HOME\" `id` $(id) \\ * ? [a] {b,c} ; & | < > # ! ~",
            "",
            "two\nlines",
            "weiß 弹幕",
        ];
        let command = shell(&words.map(str::to_owned));
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let expected = format!("{}\n", words[2..].join("\n"));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn fields_are_shown_with_their_changes() {
        let mut html = String::new();
        write_repeat(&sample_report(), &mut html);
        for text in [
            "Fields of storm",
            "<dt>viewers</dt><dd>500 <small>shipped: 10000</small></dd>",
            "<dt>storm_at_s</dt><dd>10</dd>",
            "<dt>slo.last_back_s_max</dt><dd>10</dd>",
        ] {
            assert!(html.contains(text), "{text}: {html}");
        }
        assert!(!html.contains("zipf") && !html.contains("slow_percent"));
    }

    /// Regression: a command to start the server was broken inside its words, a column wide.
    #[test]
    fn a_long_value_has_a_row_of_its_own() {
        let mut spec = Spec::shipped("restart").unwrap();
        spec.start = Some("./danmaku-server --listen 127.0.0.1:8080 --data here".to_owned());
        let mut html = String::new();
        write_fields(&spec, &mut html);
        assert!(
            html.contains("<div class=\"long\"><dt>start</dt>"),
            "{html}"
        );
        assert_eq!(html.matches("\"long\"").count(), 1, "{html}");
        assert!(html.contains("<span>--listen</span> <span>127.0.0.1:8080</span> "));
    }
}
