//! `waypost-bench`: what a message costs on this machine, Waypost against what runs here today, in one run.
//!
//! | page | what it holds |
//! |---|---|
//! | [`load`] | the source and the sink: neither keeps what it sends or takes, neither may be the bottleneck |
//! | [`server`] | the servers under test: how each is configured, started, measured and stopped |
//! | [`gauge`] | CPU and memory of a tree of processes |
//! | [`scenario`] | the scenarios, one row each |
//! | [`trial`] | one scenario on one server |
//! | [`report`] | the table, the JSON, the page |

mod gauge;
mod load;
mod report;
mod scenario;
mod server;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures mail servers on this machine: CPU of the whole server for each message, throughput, latency, memory.
#[derive(Parser)]
#[command(
    version,
    after_help = "CPU a message is user and system time of all of a server's processes, load and sink apart; the machine may be noisy, so compare \
    servers of one run.\n\nExamples:\n  waypost-bench run                                  the short form, one table\n  \
    waypost-bench run --runs 5 --messages 20000 --html bench.html --json bench.json\n  waypost-bench run --scenario relay-10k --server waypost\n  \
    waypost-bench sink 127.0.0.1:2526 &\n  waypost-bench source 127.0.0.1:2525 --sessions 50 --messages 10000 --bytes 10240\n  \
    waypost-bench source 127.0.0.1:2525 --rate 500 --messages 30000      open loop: latency from when a message was due"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios against the servers that are installed
    Run(trial::Arguments),
    /// List the scenarios
    Scenarios,
    /// Send messages, and say what came of them
    Source(load::source::Arguments),
    /// Take messages and forget them
    Sink(load::sink::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => trial::main(&arguments),
        Command::Scenarios => {
            print!("{}", scenario::list());
            Ok(())
        }
        Command::Source(arguments) => runtime().block_on(load::source::main(arguments)),
        Command::Sink(arguments) => runtime().block_on(load::sink::main(arguments)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waypost-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread: load must not take the processors from what is measured.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one thread can be had")
}

/// Whatever went wrong, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The binary of a program beside ours, or in the path.
fn program_beside(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name))
}
