//! Runs spam-score natively over folders of mail and says how it does, rule by rule.
//!
//! `cargo run -p waypost-plugin-spam-score --example corpus -- HAM_FOLDER SPAM_FOLDER [--all|--even|--odd] [--csv FILE] [--misses]`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use waypost_plugin_spam_score::SpamScore;
use waypost_plugin_spam_score::rules::RULES;
use waypost_sdk::Bench;

struct Seen {
    path: PathBuf,
    is_spam: bool,
    score: f64,
    facts: Vec<(String, f64)>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ham, spam] = [0, 1].map(|at| {
        arguments.get(at).expect("usage: corpus HAM_FOLDER SPAM_FOLDER [--even|--odd] [--csv FILE] [--misses]")
    });
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let keep = |at: usize| !(has("--even") && at % 2 == 1 || has("--odd") && at.is_multiple_of(2));
    let mut took = Duration::ZERO;
    let mut octets = 0;
    let mut seen = Vec::new();
    for (folder, is_spam) in [(ham, false), (spam, true)] {
        for (_, path) in files(Path::new(folder)).into_iter().enumerate().filter(|(at, _)| keep(*at)) {
            seen.push(judge(path, is_spam, &mut took, &mut octets));
        }
    }
    report(&seen);
    println!(
        "{:.1} µs and {} octets a message, native, host calls on the bench included",
        took.as_secs_f64() * 1e6 / seen.len() as f64,
        octets / seen.len()
    );
    if has("--misses") {
        seen.iter()
            .filter(|one| one.is_spam != (one.score >= 6.0))
            .for_each(|one| println!("{:5.1} {} {:?}", one.score, one.path.display(), one.facts));
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--csv") {
        write_csv(&arguments[at + 1], &seen);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder of messages").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

fn judge(path: PathBuf, is_spam: bool, took: &mut Duration, octets: &mut usize) -> Seen {
    let mail = std::fs::read(&path).expect("a message");
    // The first line of an mbox message is no header.
    let mail = if mail.starts_with(b"From ") {
        &mail[mail.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1)..]
    } else {
        &mail[..]
    };
    *octets += mail.len();
    thread_local! {
        static BENCH: std::cell::RefCell<Bench<SpamScore>> = std::cell::RefCell::new(Bench::start("").expect("defaults are fine"));
    }
    BENCH.with_borrow_mut(|bench| {
        bench.client("198.51.100.7");
        bench.mail("sender@example.org").expect("no mail stage");
        bench.letter(mail);
        // The server has parsed before the plugin asks.
        bench.script().message.parts();
        let start = Instant::now();
        bench.message().expect("never fails");
        *took += start.elapsed();
        let facts: Vec<(String, f64)> =
            bench.script().scores.facts.iter().map(|fact| (fact.symbol.clone(), fact.weight)).collect();
        Seen { path, is_spam, score: facts.iter().map(|(_, weight)| weight).sum(), facts }
    })
}

fn report(seen: &[Seen]) {
    let count = |is_spam: bool| seen.iter().filter(|one| one.is_spam == is_spam).count();
    for required in [4.0, 5.0, 6.0, 7.0, 8.0] {
        let flagged = |is_spam: bool| seen.iter().filter(|one| one.is_spam == is_spam && one.score >= required).count();
        let share = |is_spam: bool| 100.0 * flagged(is_spam) as f64 / count(is_spam).max(1) as f64;
        println!(
            "required {required}: {:6.2} % of {} spam, {:5.2} % of {} ham ({})",
            share(true),
            count(true),
            share(false),
            count(false),
            flagged(false)
        );
    }
    println!("{:28} {:>8} {:>8}", "rule", "spam %", "ham %");
    for (name, weight, _) in RULES {
        let share = |is_spam: bool| {
            let hit = seen
                .iter()
                .filter(|one| one.is_spam == is_spam && one.facts.iter().any(|(fact, _)| fact == name))
                .count();
            100.0 * hit as f64 / count(is_spam).max(1) as f64
        };
        println!("{name:28} {:8.2} {:8.2} {weight:6.1}", share(true), share(false));
    }
}

/// Label and hit factors (fact weight over rule weight), for fitting weights elsewhere.
fn write_csv(path: &str, seen: &[Seen]) {
    let mut out = String::new();
    for one in seen {
        out.push_str(if one.is_spam { "1" } else { "0" });
        for (name, weight) in &one.facts {
            let (at, rule) = RULES.iter().enumerate().find(|(_, rule)| rule.0 == name).expect("facts are rules");
            out.push_str(&format!(",{at}:{}", weight / rule.1));
        }
        out.push('\n');
    }
    std::fs::write(path, out).expect("writable");
}
