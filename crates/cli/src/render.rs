//! What commands print: one set of records, eight forms. Data goes to standard output and nothing else does.

use crate::error::{CliError, CliResult, exit};
use custody_projections::row::plain;
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// The form of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// Columns for people; the default.
    Table,
    /// More columns.
    Wide,
    /// Every field, one a line.
    Detailed,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
    /// Comma-separated, RFC 4180.
    Csv,
    /// Only the ids.
    Name,
    /// A template with `{field}` places.
    Template(String),
}

impl std::str::FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "table" => Format::Table,
            "wide" => Format::Wide,
            "detailed" => Format::Detailed,
            "json" => Format::Json,
            "jsonl" => Format::Jsonl,
            "csv" => Format::Csv,
            "name" => Format::Name,
            other => match other.strip_prefix("template=") {
                Some(template) => Format::Template(template.to_owned()),
                None => return Err("one of table, wide, detailed, json, jsonl, csv, name, template='{field} …'".into()),
            },
        })
    }
}

/// How times are shown to people; JSON always has RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TimeForm {
    /// `3m`, `2h`.
    Relative,
    /// Hours, minutes, seconds, UTC.
    Utc,
    /// RFC 3339.
    Iso,
}

/// One column: header, JSON field, whether only `wide` shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Upper case.
    pub(crate) header: &'static str,
    /// Dotted path into the record.
    pub(crate) field: &'static str,
    /// Only with `-o wide`.
    pub(crate) wide: bool,
}

/// A column that every table shows.
pub(crate) const fn col(header: &'static str, field: &'static str) -> Column {
    Column { header, field, wide: false }
}

/// A column that only `-o wide` shows.
pub(crate) const fn wide(header: &'static str, field: &'static str) -> Column {
    Column { header, field, wide: true }
}

/// Everything about printing that the command line says.
#[derive(Debug, Clone)]
pub(crate) struct Render {
    /// The form; `None` is the command's own default.
    pub(crate) format: Option<Format>,
    /// No header line.
    pub(crate) no_headers: bool,
    /// No cutting of long cells.
    pub(crate) no_trunc: bool,
    /// Only these fields.
    pub(crate) fields: Vec<String>,
    /// Times.
    pub(crate) time: TimeForm,
    /// Whether colours are used.
    pub(crate) color: bool,
    /// Now, for relative times; milliseconds since the epoch.
    pub(crate) now_ms: u64,
}

/// The widest a cell is shown unless `--no-trunc` is given.
const CELL_MAX: usize = 60;

impl Render {
    /// The form in force.
    pub(crate) fn format(&self) -> Format {
        self.format.clone().unwrap_or(Format::Table)
    }

    /// Whether a program reads the output.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.format, Some(Format::Json | Format::Jsonl))
    }

    /// Prints a list. `schema` names each record's form in JSON, `id` the field that `-o name` prints.
    pub(crate) fn list(&self, schema: &str, id: &str, columns: &[Column], rows: &[Value]) -> CliResult {
        let rows: Vec<Value> = rows.iter().map(|row| with_schema(schema, row)).collect();
        let mut out = std::io::stdout().lock();
        match self.format() {
            Format::Json => {
                let rows: Vec<Value> = rows.iter().map(|r| self.pick(r)).collect();
                writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
            }
            Format::Jsonl => rows.iter().try_for_each(|r| writeln!(out, "{}", self.pick(r)))?,
            Format::Name => rows.iter().try_for_each(|r| writeln!(out, "{}", self.cell(r, id)))?,
            Format::Template(template) => rows.iter().try_for_each(|r| writeln!(out, "{}", self.fill(&template, r)))?,
            Format::Detailed => {
                for (index, row) in rows.iter().enumerate() {
                    if index > 0 {
                        writeln!(out)?;
                    }
                    self.detail(&mut out, row)?;
                }
            }
            Format::Csv => {
                let columns = self.columns(columns, true);
                if !self.no_headers {
                    let heads: Vec<_> = columns.iter().map(|c| csv(&c.0.to_lowercase())).collect();
                    writeln!(out, "{}", heads.join(","))?;
                }
                for row in &rows {
                    let cells: Vec<_> = columns.iter().map(|c| csv(&self.raw(row, &c.1))).collect();
                    writeln!(out, "{}", cells.join(","))?;
                }
            }
            form @ (Format::Table | Format::Wide) => {
                let columns = self.columns(columns, form == Format::Wide);
                self.table(&mut out, &columns, &rows)?;
            }
        }
        Ok(())
    }

    /// Prints one record.
    pub(crate) fn one(&self, schema: &str, id: &str, row: &Value) -> CliResult {
        let row = with_schema(schema, row);
        let mut out = std::io::stdout().lock();
        match self.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&self.pick(&row))?)?,
            Format::Jsonl => writeln!(out, "{}", self.pick(&row))?,
            Format::Name => writeln!(out, "{}", self.cell(&row, id))?,
            Format::Template(template) => writeln!(out, "{}", self.fill(&template, &row))?,
            Format::Csv => {
                let Value::Object(map) = self.pick(&row) else { return Ok(()) };
                if !self.no_headers {
                    writeln!(out, "{}", map.keys().map(|k| csv(k)).collect::<Vec<_>>().join(","))?;
                }
                writeln!(out, "{}", map.keys().map(|k| csv(&self.raw(&row, k))).collect::<Vec<_>>().join(","))?;
            }
            Format::Table | Format::Wide | Format::Detailed => self.detail(&mut out, &row)?,
        }
        Ok(())
    }

    /// The table's header and rows as lines, for output that comes bit by bit: fixed widths.
    pub(crate) fn stream_line(&self, columns: &[(Column, usize)], row: Option<&Value>) -> String {
        let shown = columns.iter().filter(|(c, _)| !c.wide || self.format() == Format::Wide);
        let mut line = String::new();
        for (column, width) in shown {
            let cell = row.map_or_else(|| column.header.to_owned(), |r| self.cut(self.cell(r, column.field)));
            line.push_str(&cell);
            for _ in cell.chars().count()..*width {
                line.push(' ');
            }
            line.push_str("  ");
        }
        line.trim_end().to_owned()
    }

    /// One line of a stream in a form that programs read; `None` for the forms of people.
    pub(crate) fn stream_row(&self, schema: &str, id: &str, columns: &[Column], row: &Value) -> Option<String> {
        let row = with_schema(schema, row);
        match self.format() {
            Format::Json | Format::Jsonl => Some(self.pick(&row).to_string()),
            Format::Name => Some(self.cell(&row, id)),
            Format::Template(template) => Some(self.fill(&template, &row)),
            Format::Csv => {
                let columns = self.columns(columns, true);
                Some(columns.iter().map(|c| csv(&self.raw(&row, &c.1))).collect::<Vec<_>>().join(","))
            }
            Format::Table | Format::Wide | Format::Detailed => None,
        }
    }

    fn columns(&self, columns: &[Column], all: bool) -> Vec<(String, String)> {
        if !self.fields.is_empty() {
            return self.fields.iter().map(|f| (f.to_uppercase(), f.clone())).collect();
        }
        columns.iter().filter(|c| all || !c.wide).map(|c| (c.header.to_owned(), c.field.to_owned())).collect()
    }

    fn table(&self, out: &mut impl Write, columns: &[(String, String)], rows: &[Value]) -> CliResult {
        let mut lines: Vec<Vec<String>> = Vec::new();
        if !self.no_headers {
            lines.push(columns.iter().map(|c| c.0.clone()).collect());
        }
        for row in rows {
            lines.push(columns.iter().map(|c| self.cut(self.cell(row, &c.1))).collect());
        }
        let width =
            |index: usize| lines.iter().filter_map(|l| l.get(index)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        for line in &lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    fn detail(&self, out: &mut impl Write, row: &Value) -> CliResult {
        let picked = self.pick(row);
        let Value::Object(map) = &picked else { return Ok(()) };
        let width = map.keys().map(String::len).max().unwrap_or(0);
        for (key, value) in map {
            match value {
                Value::Null => {}
                Value::Array(items) if items.iter().any(Value::is_object) => {
                    writeln!(out, "{key}")?;
                    for item in items {
                        writeln!(out, "  - {}", plain(&item.to_string(), 400))?;
                    }
                }
                _ => writeln!(out, "{key:width$}  {}", plain(&self.raw(row, key), 4_000))?,
            }
        }
        Ok(())
    }

    fn pick(&self, row: &Value) -> Value {
        if self.fields.is_empty() {
            return row.clone();
        }
        let picked = self.fields.iter().map(|f| (f.clone(), at(row, f).cloned().unwrap_or(Value::Null)));
        Value::Object(picked.collect())
    }

    fn raw(&self, row: &Value, field: &str) -> String {
        text(at(row, field))
    }

    /// A cell for people: times in the wanted form, control characters replaced.
    pub(crate) fn cell(&self, row: &Value, field: &str) -> String {
        let value = at(row, field);
        let is_time = field == "time" || field.ends_with("_at");
        let shown = match value {
            Some(Value::Number(n)) if is_time => self.time(n.as_u64().unwrap_or(0)),
            Some(Value::String(s)) if is_time => parse_rfc3339(s).map_or_else(|| s.clone(), |ms| self.time(ms)),
            other => text(other),
        };
        let shown = plain(&shown, 4_000);
        if shown.is_empty() { "-".to_owned() } else { shown }
    }

    fn time(&self, ms: u64) -> String {
        match self.time {
            TimeForm::Relative => relative(self.now_ms, ms),
            TimeForm::Utc => {
                let iso = custody_contracts::ids::UnixMillis(ms).rfc3339();
                iso.get(11..19).unwrap_or_default().to_owned()
            }
            TimeForm::Iso => custody_contracts::ids::UnixMillis(ms).rfc3339(),
        }
    }

    fn cut(&self, cell: String) -> String {
        if self.no_trunc || cell.chars().count() <= CELL_MAX {
            return cell;
        }
        let mut cut: String = cell.chars().take(CELL_MAX - 1).collect();
        cut.push('…');
        cut
    }

    fn fill(&self, template: &str, row: &Value) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (before, after) = rest.split_at(open);
            out.push_str(before);
            match after.find('}') {
                Some(close) => {
                    out.push_str(&plain(&self.raw(row, after.get(1..close).unwrap_or_default()), 4_000));
                    rest = after.get(close + 1..).unwrap_or_default();
                }
                None => {
                    out.push_str(after);
                    rest = "";
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// Paints a word when colours are on; the word itself always stays.
    pub(crate) fn paint(&self, word: &str, outcome: &str) -> String {
        if !self.color {
            return word.to_owned();
        }
        let code = match outcome {
            "refused" | "failed" => "31",
            "ok" | "completed" | "PASS" => "32",
            _ => "33",
        };
        format!("\u{1b}[{code}m{word}\u{1b}[0m")
    }
}

/// How long ago, in one unit.
fn relative(now_ms: u64, ms: u64) -> String {
    let seconds = now_ms.saturating_sub(ms) / 1000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Milliseconds of an RFC 3339 time in UTC, as our own events write it.
pub(crate) fn parse_rfc3339(text: &str) -> Option<u64> {
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

fn with_schema(schema: &str, row: &Value) -> Value {
    match row {
        Value::Object(map) if !map.contains_key("schema") => {
            let mut map = map.clone();
            map.insert("schema".into(), Value::String(schema.into()));
            Value::Object(map)
        }
        other => other.clone(),
    }
}

fn at<'a>(row: &'a Value, field: &str) -> Option<&'a Value> {
    field.split('.').try_fold(row, |value, part| value.get(part))
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(s)) => s.clone(),
        Some(Value::Array(items)) => items.iter().map(|i| text(Some(i))).collect::<Vec<_>>().join(","),
        Some(other) => other.to_string(),
    }
}

fn csv(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell.to_owned()
}

/// Whether standard error is somebody's terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether colours are to be used, by the flag, `NO_COLOR` and `CLICOLOR_FORCE`.
pub(crate) fn use_color(choice: &str) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
    match choice {
        "always" => true,
        "never" => false,
        _ if set("NO_COLOR") => false,
        _ if set("CLICOLOR_FORCE") => true,
        _ => std::io::stdout().is_terminal(),
    }
}

/// Prints one line of a notice: standard error, so that output stays data.
pub(crate) fn notice(text: impl std::fmt::Display) {
    // A closed standard error leaves nobody to tell.
    let _closed = writeln!(std::io::stderr(), "-- {text}");
}

/// Prints one line of data.
pub(crate) fn line(text: impl std::fmt::Display) -> CliResult {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Prints data without a line end.
pub(crate) fn raw(bytes: &[u8]) -> CliResult {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// A form that this command does not honour.
pub(crate) fn unsupported(format: &Format) -> CliError {
    CliError::new(exit::USAGE, "FORMAT_UNSUPPORTED", format!("this command has no output form {format:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn render(format: &str) -> Render {
        Render {
            format: Some(format.parse().unwrap()),
            no_headers: false,
            no_trunc: false,
            fields: Vec::new(),
            time: TimeForm::Relative,
            color: false,
            now_ms: 10_000_000,
        }
    }

    #[rstest]
    #[case(9_990_000, "10s")]
    #[case(9_000_000, "16m")]
    #[case(0, "2h")]
    fn times_are_shown_in_one_unit(#[case] at_ms: u64, #[case] shown: &str) {
        assert_eq!(render("table").cell(&json!({ "decided_at": at_ms }), "decided_at"), shown);
    }

    #[test]
    fn a_cell_cannot_move_the_cursor_and_is_cut() {
        let row = json!({ "what": format!("\u{1b}[2J{}", "x".repeat(100)) });
        let cell = render("table").cut(render("table").cell(&row, "what"));
        assert!(!cell.contains('\u{1b}'));
        assert_eq!(cell.chars().count(), CELL_MAX);
    }

    #[rstest]
    #[case("plain", "plain")]
    #[case("a,b", "\"a,b\"")]
    #[case("say \"x\"", "\"say \"\"x\"\"\"")]
    fn csv_follows_rfc_4180(#[case] cell: &str, #[case] written: &str) {
        assert_eq!(csv(cell), written);
    }

    #[test]
    fn templates_fill_fields_and_leave_the_rest() {
        let row = json!({ "a": "1", "b": { "c": 2 } });
        assert_eq!(render("template={a}-{b.c}-{none}!").fill("{a}-{b.c}-{none}! {", &row), "1-2-! {");
    }

    #[test]
    fn an_unknown_form_is_refused() {
        assert!("yaml".parse::<Format>().is_err());
    }
}
