//! What was measured: one table for the terminal, JSON, and one page with plots that needs nothing else.

use std::fmt::Write as _;
use std::process::Command;

use serde::Serialize;

use crate::scenario::Scenario;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) messages: u64,
    pub(crate) accepted: u64,
    pub(crate) arrived: u64,
    /// CPU of the whole server for each message, milliseconds.
    pub(crate) cpu_ms: f64,
    pub(crate) per_second: f64,
    pub(crate) pss_mib: f64,
    /// Median, 99th percentile, most; milliseconds.
    pub(crate) latency_ms: [f64; 3],
    /// Replies other than 250, and how many.
    pub(crate) failures: Vec<(u16, u64)>,
}

/// One scenario on one server.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    scenario: &'static str,
    what: &'static str,
    server: &'static str,
    samples: Vec<Sample>,
    /// Why there are none.
    silent: Option<&'static str>,
}

impl Row {
    pub(crate) fn new(scenario: &Scenario, server: &'static str, samples: Vec<Sample>) -> Row {
        Row { scenario: scenario.name, what: scenario.what, server, samples, silent: None }
    }

    /// The middle one of some figure, the least and the most.
    fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<[f64; 3]> {
        let mut all: Vec<f64> = self.samples.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        Some([*all.get(all.len() / 2)?, *all.first()?, *all.last()?])
    }
}

/// Everything of one invocation.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    command: String,
    commit: String,
    machine: String,
    servers: Vec<(String, String)>,
    rows: Vec<Row>,
}

impl Report {
    /// Notes command, commit and machine.
    pub(crate) fn begin() -> Report {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Report {
            command: format!("waypost-bench {}", arguments.join(" ")),
            commit: told_by("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "no commit".into()),
            machine: machine(),
            servers: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn server(&mut self, name: &str, version: &str) {
        self.servers.push((name.to_string(), version.to_string()));
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// A server that does not play a scenario.
    pub(crate) fn silent(&mut self, scenario: &Scenario, server: &'static str, why: &'static str) {
        self.rows.push(Row { silent: Some(why), ..Row::new(scenario, server, Vec::new()) });
    }

    /// Whether everything that was sent was accepted and arrived.
    pub(crate) fn is_complete(&self) -> bool {
        let samples = self.rows.iter().flat_map(|row| &row.samples);
        samples.clone().all(|sample| sample.accepted == sample.messages && sample.arrived >= sample.messages)
    }

    /// In the order of scenarios, servers beside each other.
    fn ordered(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| self.rows.iter().position(|other| other.scenario == row.scenario));
        rows
    }

    /// How many times Waypost's CPU a row takes.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let ours = self.rows.iter().find(|other| other.scenario == row.scenario && other.server == "waypost")?;
        Some(row.spread(|s| s.cpu_ms)?[0] / ours.spread(|s| s.cpu_ms)?[0])
    }

    /// For the terminal.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\ncommit {}, {}\n", self.command, self.commit, self.machine);
        for (name, version) in &self.servers {
            writeln!(text, "{name}: {version}").expect(FITS);
        }
        let head =
            ["scenario", "server", "CPU ms/message", "ratio", "messages/s", "p50 ms", "p99 ms", "PSS MiB", "arrived"];
        let [a, b, c, d, e, f, g, h, i] = head;
        writeln!(text, "\n{a:<22} {b:<9} {c:>22} {d:>6} {e:>11} {f:>8} {g:>8} {h:>8}  {i}").expect(FITS);
        for row in self.ordered() {
            text.push_str(&self.line(row));
        }
        text
    }

    fn line(&self, row: &Row) -> String {
        let Some([cpu, least, most]) = row.spread(|s| s.cpu_ms) else {
            return format!("{:<22} {:<9} {}\n", row.scenario, row.server, row.silent.unwrap_or("not measured"));
        };
        let middle = |figure: &dyn Fn(&Sample) -> f64| row.spread(figure).map_or(0.0, |spread| spread[0]);
        let ratio = self.ratio(row).map_or_else(String::new, |ratio| format!("{ratio:.1}"));
        let (sent, arrived) =
            row.samples.iter().fold((0, 0), |(sent, arrived), s| (sent + s.messages, arrived + s.arrived));
        format!(
            "{:<22} {:<9} {:>22} {ratio:>6} {:>11.0} {:>8.1} {:>8.1} {:>8.0}  {arrived} of {sent}\n",
            row.scenario,
            row.server,
            format!("{cpu:.3} ({least:.3}–{most:.3})"),
            middle(&|s| s.per_second),
            middle(&|s| s.latency_ms[0]),
            middle(&|s| s.latency_ms[1]),
            middle(&|s| s.pss_mib),
        )
    }

    /// Every figure.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("figures and names are JSON") + "\n"
    }

    /// A page that needs nothing else.
    pub(crate) fn page(&self) -> String {
        let plots = [
            ("CPU of the whole server for each message, ms", (|s| s.cpu_ms) as fn(&Sample) -> f64),
            ("Messages a second", |s| s.per_second),
            ("Latency, 99th percentile, ms", |s| s.latency_ms[1]),
            ("Memory, MiB (PSS)", |s| s.pss_mib),
        ];
        let plots: String = plots.iter().map(|(title, figure)| self.plot(title, figure)).collect();
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>waypost-bench</title><style>{STYLE}</style>\
             <h1>waypost-bench</h1><p><code>{}</code><br>commit {}, {}</p>{plots}<h2>Table</h2><pre>{}</pre></html>\n",
            escape(&self.command),
            escape(&self.commit),
            escape(&self.machine),
            escape(&self.table())
        )
    }

    /// A bar for each row, with the spread of its runs.
    fn plot(&self, title: &str, figure: &dyn Fn(&Sample) -> f64) -> String {
        let rows: Vec<_> = self.ordered().into_iter().filter_map(|row| Some((row, row.spread(figure)?))).collect();
        let most = rows.iter().map(|(_, spread)| spread[2]).fold(f64::MIN_POSITIVE, f64::max);
        let mut bars = String::new();
        for (at, (row, [middle, least, greatest])) in rows.iter().enumerate() {
            let (y, x) = (at * 22, |value: f64| 300.0 + 500.0 * value / most);
            let class = if row.server == "waypost" { "ours" } else { "theirs" };
            write!(
                bars,
                "<text x=290 y={} text-anchor=end>{} · {}</text><rect class={class} x=300 y={} width={:.1} height=14 />\
                 <line x1={:.1} x2={:.1} y1={} y2={} /><text x={:.1} y={}>{middle:.2}</text>",
                y + 14,
                row.scenario,
                row.server,
                y + 3,
                x(*middle) - 300.0,
                x(*least),
                x(*greatest),
                y + 10,
                y + 10,
                x(*greatest) + 6.0,
                y + 14
            )
            .expect(FITS);
        }
        format!("<h2>{title}</h2><svg width=900 height={}>{bars}</svg>", rows.len() * 22 + 8)
    }
}

const FITS: &str = "a String takes everything";

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fdfdfb}\
    h1{font-size:1.6rem}h2{font-size:1.1rem;margin-top:2rem}svg text{font:12px system-ui,sans-serif;fill:#222}\
    .ours{fill:#2a7f3f}.theirs{fill:#9aa0a6}line{stroke:#222}pre{overflow-x:auto;font-size:12px}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn told_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_string()).filter(|text| !text.is_empty())
}

/// Processor, cores, memory, kernel.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let kernel = told_by("uname", &["-r"]).unwrap_or_default();
    format!("{model}, {cores} cores, {} GiB, Linux {kernel}", kib.unwrap_or(0u64) >> 20)
}
