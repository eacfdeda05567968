//! Counts the instructions of each step under callgrind and compares them with `counts.tsv`: a step that has become dearer fails.
//!
//! ```text
//! waypost-count            count all steps and compare
//! waypost-count --write    count all steps and keep the counts
//! waypost-count STEP N     run a step N times: what is counted
//! ```
//!
//! A count is the difference between two runs of different length, so that starting up is not in it. Hash tables are seeded anew in each
//! process and memory lies elsewhere, which moves counts by a hundredth or so; `TOLERANCE` is well above.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};

use waypost_count::{STEPS, Step};

/// The counts of the last `--write`, with the processor they are of.
const KEPT: &str = include_str!("../counts.tsv");
const KEPT_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.tsv");
/// How much dearer than it was a step may be.
const TOLERANCE: f64 = 0.05;
/// Rounds of the short run; the long one has `ROUNDS` more.
const WARM_UP: u64 = 100;
const ROUNDS: u64 = 400;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--write"] => write(),
        [name, rounds] => run(name, rounds),
        _ => fail("usage: waypost-count [--write | STEP ROUNDS]"),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

fn run(name: &str, rounds: &str) -> ExitCode {
    let (Some(step), Ok(rounds)) = (STEPS.iter().find(|step| step.name == name), rounds.parse::<u64>()) else {
        return fail("no such step, or no number of rounds");
    };
    let mut round = (step.ready)();
    (0..rounds).for_each(|_| round());
    ExitCode::SUCCESS
}

fn compare() -> ExitCode {
    let kept = kept();
    if !KEPT.contains(&format!("# {}\n", std::env::consts::ARCH)) {
        println!("counts.tsv is of another kind of processor: nothing to compare with here");
        return ExitCode::SUCCESS;
    }
    let mut dearer = Vec::new();
    println!("{:<16} {:>10} {:>10} {:>8}  instructions", "step", "now", "kept", "change");
    for step in STEPS {
        let now = match count(step) {
            Ok(now) => now,
            Err(problem) => return fail(&problem),
        };
        let Some(&before) = kept.get(step.name) else {
            return fail(&format!("{} is not in counts.tsv: `waypost-count --write` adds it", step.name));
        };
        let change = now as f64 / before as f64 - 1.0;
        println!("{:<16} {now:>10} {before:>10} {:>+7.1}%  {}", step.name, change * 100.0, step.what);
        if change > TOLERANCE {
            dearer.push(step.name);
        }
    }
    if dearer.is_empty() {
        return ExitCode::SUCCESS;
    }
    fail(&format!(
        "dearer than they were: {}. Mend it, or, if it is worth its price, keep the new counts with `waypost-count --write` and say why",
        dearer.join(", ")
    ))
}

fn write() -> ExitCode {
    let mut text = format!(
        "# Instructions a round of each step, by `make count`; written by `waypost-count --write`.\n# {}\n",
        std::env::consts::ARCH
    );
    for step in STEPS {
        match count(step) {
            Ok(now) => text.push_str(&format!("{}\t{now}\n", step.name)),
            Err(problem) => return fail(&problem),
        }
    }
    match std::fs::write(KEPT_PATH, &text) {
        Ok(()) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("{KEPT_PATH}: {error}")),
    }
}

fn kept() -> BTreeMap<&'static str, u64> {
    let rows = KEPT.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|line| line.split_once('\t'))
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect()
}

/// Instructions a round.
fn count(step: &Step) -> Result<u64, String> {
    let short = total(step, WARM_UP)?;
    let long = total(step, WARM_UP + ROUNDS)?;
    Ok(long.saturating_sub(short) / ROUNDS)
}

fn total(step: &Step, rounds: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([step.name, &rounds.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind cannot be started ({error}): install Debian's package `valgrind`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.filter(|_| output.status.success()).ok_or_else(|| format!("{}: valgrind says\n{said}", step.name))
}
