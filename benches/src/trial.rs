//! One scenario on one server: a warm-up, then runs, each measured from the first connection until the last message has arrived.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use crate::report::{Report, Row, Sample};
use crate::scenario::{self, Scenario, Way};
use crate::server::{self, Running, Server};
use crate::{Failure, gauge, load, runtime};

/// Which scenarios, how often, against what.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Only these scenarios; `waypost-bench scenarios` lists them
    #[arg(long)]
    scenario: Vec<String>,
    /// Only these servers: waypost, postfix
    #[arg(long)]
    server: Vec<String>,
    /// All scenarios, not only the short form's
    #[arg(long)]
    long: bool,
    /// Measured runs of each
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Messages in each run, instead of the scenario's own number
    #[arg(long)]
    messages: Option<u64>,
    /// The binary to measure, instead of the one beside this program
    #[arg(long)]
    waypost: Option<PathBuf>,
    /// Write all figures here
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a page with plots here
    #[arg(long)]
    html: Option<PathBuf>,
}

/// Longest time that mail may take to arrive once it is accepted.
const ARRIVAL_MAX: Duration = Duration::from_secs(120);

/// `waypost-bench run`.
pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let scenarios = chosen(arguments)?;
    let servers = server::all(arguments.waypost.as_deref());
    let mut report = Report::begin();
    for server in servers.iter().filter(|server| is_named(&arguments.server, server.name())) {
        match server.version() {
            Ok(version) => report.server(server.name(), &version),
            Err(why) => {
                eprintln!("{} is not measured: {why}", server.name());
                continue;
            }
        }
        for scenario in &scenarios {
            if let Err(why) = server.plays(scenario) {
                report.silent(scenario, server.name(), why);
                continue;
            }
            eprintln!("{} on {} …", scenario.name, server.name());
            let row = play(arguments, scenario, &**server)?;
            report.add(row);
        }
    }
    print!("{}", report.table());
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json())?;
    }
    if let Some(path) = &arguments.html {
        std::fs::write(path, report.page())?;
    }
    if report.is_complete() { Ok(()) } else { Err("not every message arrived".into()) }
}

fn is_named(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|wanted| wanted == name)
}

fn chosen(arguments: &Arguments) -> Result<Vec<Scenario>, Failure> {
    if let Some(unknown) = arguments.scenario.iter().find(|name| !scenario::ALL.iter().any(|s| s.name == **name)) {
        return Err(format!("there is no scenario {unknown}; `waypost-bench scenarios` lists them").into());
    }
    let wanted = |scenario: &&Scenario| match arguments.scenario.is_empty() {
        true => arguments.long || scenario.short,
        false => is_named(&arguments.scenario, scenario.name),
    };
    Ok(scenario::ALL.iter().filter(wanted).copied().collect())
}

fn play(arguments: &Arguments, scenario: &Scenario, server: &dyn Server) -> Result<Row, Failure> {
    let folder = tempfile::tempdir()?;
    let sink = Sink::start(scenario)?;
    let running = server.start(scenario, folder.path(), sink.address)?;
    let messages = arguments.messages.unwrap_or(scenario.messages);
    let arrived = Arrived { sink: &sink, mailbox: running.mailbox.as_deref() };
    // Connections open, caches fill, code is compiled: that is not what is measured.
    run(scenario, &running, &arrived, (messages / 5).max(100))?;
    let samples = (0..arguments.runs.max(1)).map(|_| run(scenario, &running, &arrived, messages));
    Ok(Row::new(scenario, server.name(), samples.collect::<Result<_, _>>()?))
}

fn run(scenario: &Scenario, running: &Running, arrived: &Arrived<'_>, messages: u64) -> Result<Sample, Failure> {
    let before = gauge::read(running.pid);
    let (there, begun) = (arrived.count(), Instant::now());
    let outcome = runtime().block_on(load::source::send(load::source::Arguments {
        to: running.address,
        sessions: scenario.sessions,
        messages,
        bytes: scenario.bytes,
        per_connection: scenario.per_connection,
        recipients: scenario.recipients,
        from: if running.login.is_some() { "alice@waypost.test" } else { "source@client.example" }.into(),
        recipient: recipient(scenario).into(),
        no_pipelining: false,
        chunking: false,
        starttls: scenario.tls,
        tls: false,
        login: running.login.clone(),
        rate: None,
        addresses: 1,
    }))?;
    let wanted = if scenario.way == Way::AcceptOnly { 0 } else { outcome.accepted };
    while arrived.count() - there < wanted && begun.elapsed() < outcome.took + ARRIVAL_MAX {
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = begun.elapsed();
    // What follows the last message: settlements, closed connections.
    std::thread::sleep(Duration::from_millis(300));
    let after = gauge::read(running.pid);
    Ok(Sample {
        messages,
        accepted: outcome.accepted,
        arrived: if wanted == 0 { outcome.accepted } else { arrived.count() - there },
        cpu_ms: after.cpu_since(&before).as_secs_f64() * 1000.0 / messages as f64,
        per_second: messages as f64 / took.as_secs_f64(),
        pss_mib: after.pss_kib as f64 / 1024.0,
        latency_ms: [0.5, 0.99, 1.0].map(|q| outcome.latency.value_at_quantile(q) as f64 / 1000.0),
        failures: outcome.failures,
    })
}

fn recipient(scenario: &Scenario) -> &'static str {
    match scenario.way {
        Way::Mailbox => "alice@waypost.test",
        _ if scenario.recipients > 1 => "user%@elsewhere.example",
        _ => "user@elsewhere.example",
    }
}

/// Where mail ends.
struct Arrived<'a> {
    sink: &'a Sink,
    mailbox: Option<&'a Path>,
}

impl Arrived<'_> {
    fn count(&self) -> u64 {
        match self.mailbox {
            Some(folder) => std::fs::read_dir(folder).map_or(0, |files| files.count() as u64),
            None => self.sink.taken.load(Ordering::Relaxed),
        }
    }
}

/// Our sink as a process of its own.
struct Sink {
    address: SocketAddr,
    child: Child,
    taken: Arc<AtomicU64>,
}

impl Sink {
    fn start(scenario: &Scenario) -> Result<Sink, Failure> {
        let address = SocketAddr::from(([127, 0, 0, 1], server::free_port()?));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["sink", &address.to_string()]).args(scenario.tls.then_some("--starttls"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("the sink says nothing")?;
        let taken = Arc::new(AtomicU64::new(0));
        let told = taken.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                told.store(line.trim().parse().unwrap_or(0), Ordering::Relaxed);
            }
        });
        let sink = Sink { address, child, taken };
        server::wait_for(address, Duration::from_secs(10))?;
        Ok(sink)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
