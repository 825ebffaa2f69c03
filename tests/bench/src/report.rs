//! What was measured: a table for people, JSON for programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One figure of Bursar, beside those of others where they do the same.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    group: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    /// Who else does the same work.
    peer: Option<&'static str>,
    peer_value: Option<f64>,
    /// `value` over `peer_value`.
    ratio: Option<f64>,
    /// Of what does nothing but the unavoidable: the bare echo, the program started by itself. For people only.
    #[serde(skip)]
    bare: Option<f64>,
    /// What a reader has to know to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Figure {
    pub(crate) fn new(group: &'static str, name: String, unit: &'static str, value: f64) -> Self {
        let value = rounded(value);
        Self { group, name, value, unit, peer: None, peer_value: None, ratio: None, bare: None, note: None }
    }

    pub(crate) fn beside_bare(self, bare: f64) -> Self {
        Self { bare: Some(bare), ..self }
    }

    /// The same where what does nothing is what to compare with.
    pub(crate) fn against_bare(self, bare: f64) -> Self {
        let ratio = (bare > 0.0).then(|| rounded(self.value / bare));
        Self { peer: Some("bare"), peer_value: Some(rounded(bare)), ratio, ..self.beside_bare(bare) }
    }

    pub(crate) fn beside_openbao(self, value: f64) -> Self {
        let ratio = (value > 0.0).then(|| rounded(self.value / value));
        Self { peer: Some(OPENBAO), peer_value: Some(rounded(value)), ratio, ..self }
    }

    /// What OpenBao takes for something smaller, which `note` names: there is no ratio.
    pub(crate) fn beside_smaller_openbao(self, value: f64, note: &str) -> Self {
        Self { ratio: None, ..self.beside_openbao(value) }.noted(note)
    }

    pub(crate) fn noted(self, note: &str) -> Self {
        Self { note: Some(note.to_owned()), ..self }
    }
}

/// Writes the JSON array of `figures`.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, figures: &[Figure]) -> Result<()> {
    let json = serde_json::to_string_pretty(figures)?;
    fs::write(path, json + "\n").with_context(|| format!("`{}` cannot be written", path.display()))
}

/// Prints the table of `figures`.
#[expect(clippy::print_stdout, reason = "the table is what the command is asked for")]
pub(crate) fn print(figures: &[Figure]) {
    print!("{}", table(figures));
}

fn table(figures: &[Figure]) -> String {
    let mut table = row(["", "", "bare", "OpenBao", "Bursar", "ratio"].map(str::to_owned));
    for figure in figures {
        let known = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), shown);
        table.push_str(&row([
            figure.name.clone(),
            figure.unit.to_owned(),
            known(figure.bare),
            known(figure.peer_value.filter(|_| figure.peer == Some(OPENBAO))),
            shown(figure.value),
            known(figure.ratio),
        ]));
    }
    table.push_str(LEGEND);
    for figure in figures {
        if let Some(note) = &figure.note {
            table.push_str(&format!("{}: {note}\n", figure.name));
        }
    }
    table
}

fn row([name, unit, bare, openbao, bursar, ratio]: [String; 6]) -> String {
    let line = format!("{name:<31} {unit:<6} {bare:>10} {openbao:>10} {bursar:>10} {ratio:>10}");
    line.trim_end().to_owned() + "\n"
}

/// With as many digits as mean something.
pub(crate) fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

const OPENBAO: &str = "openbao";
const LEGEND: &str = "
8x32: 8 connections of 32 streams (OpenBao: 32 connections); 8x1: 8 connections of one; 32x1: 32 of one
cpu_us: processor time of the server, a request; p50_ms, p99_ms: latency
bare: a gRPC echo that does nothing (read, agent), the program by itself (run), a broker without leases (ledger)
      or with its ledger in files (cluster)
ratio: to OpenBao; to bare where that is what a figure is compared with
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_the_fields_that_readers_of_the_file_expect() {
        let figure = Figure::new("read", "read.8x32.rps".to_owned(), "req/s", 15000.0).beside_bare(60000.0);
        let json = |figure: &Figure| serde_json::to_string(figure).unwrap();
        let alone = r#"{"group":"read","name":"read.8x32.rps","value":15000.0,"unit":"req/s","#;
        assert_eq!(json(&figure), format!(r#"{alone}"peer":null,"peer_value":null,"ratio":null}}"#));
        let figure = figure.beside_openbao(2000.0);
        assert_eq!(json(&figure), format!(r#"{alone}"peer":"openbao","peer_value":2000.0,"ratio":7.5}}"#));
    }

    #[test]
    fn a_ratio_to_nothing_is_left_out() {
        assert_eq!(Figure::new("read", String::new(), "us", 1.0).beside_openbao(0.0).ratio, None);
    }

    #[test]
    fn less_work_has_a_note_and_no_ratio() {
        let figure = Figure::new("ledger", "revoke_prefix_100k.s".to_owned(), "s", 1.5);
        let figure = figure.beside_smaller_openbao(10.0, "OpenBao: 2,000 leases");
        assert_eq!((figure.peer_value, figure.ratio), (Some(10.0), None));
        assert!(table(&[figure]).ends_with("revoke_prefix_100k.s: OpenBao: 2,000 leases\n"));
    }

    #[test]
    fn what_nobody_else_does_is_a_dash_in_the_table() {
        let figure = Figure::new("run", "run.overhead_ms".to_owned(), "ms", 12.345);
        let table = table(&[figure]);
        let line = table.lines().nth(1).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["run.overhead_ms", "ms", "-", "-", "12.3", "-"]
        );
    }
}
