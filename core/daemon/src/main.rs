//! Waypost, the program: reads the command line and hands over. The only room where concrete things meet (`assemble`).
//!
//! | page | what it holds |
//! |---|---|
//! | `cli/*` | a page for each subcommand |
//! | `assemble` | from a configuration to the options of the working crates |
//! | `first_start` | what is made when it is missing: folders, token, demonstration user, DKIM keys |
//! | `site` | the running site: start, reload, drain |
//! | `observe/*` | log lines and counters, from the same events |
//! | `admin/*` | page, metrics and API over HTTP |
//! | `recorder` | recorded transactions, for `waypost plugin replay` |
//! | `logins` | who may log in: back end, tokens, certificates |

mod admin;
mod assemble;
mod bounces;
mod certificates;
mod cli;
mod fetch;
mod first_start;
mod logins;
mod observe;
mod pipes;
mod privileges;
mod recorder;
mod routing;
mod site;
mod supervisor;
mod tls_reports;

use std::process::ExitCode;

/// Many threads allocate and free buffers of all sizes: measured against the system's allocator by others and by us. Without huge pages
/// (`no_thp`): they cost 38 MiB of half-used pages and won nothing that could be measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
