//! Says how spam-score does on folders of real mail, one message a file: learns a part, judges the rest.
//!
//! ```text
//! evaluate HAM SPAM [--folds 5]                     five-fold: each fifth is judged by what the other four taught
//! evaluate HAM SPAM --apart NAME=KIND:FOLDER …      learns all of both, judges other folders (KIND: ham or spam)
//!          [--rules]                                how often each rule is hit
//!          [--misses]                               what was misjudged, and why
//!          [--each]                                 every message, and why
//!          [--no-bayes]                             the rules alone
//!          [--set JSON]                             settings of spam-score
//! ```
//!
//! Natively, on the SDK's bench: no server, no network, a store in memory. Which messages share a fold is decided by their order.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use waypost_plugin_spam_score::SpamScore;
use waypost_plugin_spam_score::rules::RULES;
use waypost_sdk::Bench;

const THRESHOLDS: [f64; 6] = [4.0, 4.5, 5.0, 5.5, 6.0, 7.0];

struct Mail {
    path: PathBuf,
    set: String,
    is_spam: bool,
    octets: Vec<u8>,
}

struct Seen<'a> {
    mail: &'a Mail,
    score: f64,
    facts: Vec<(String, f64)>,
}

struct Arguments {
    words: Vec<String>,
}

impl Arguments {
    fn has(&self, flag: &str) -> bool {
        self.words.iter().any(|word| word == flag)
    }

    fn all<'a>(&'a self, flag: &'a str) -> impl Iterator<Item = &'a str> {
        self.words.windows(2).filter(move |pair| pair[0] == flag).map(|pair| pair[1].as_str())
    }
}

fn main() {
    let arguments = Arguments { words: std::env::args().skip(1).collect() };
    let [ham, spam] = [0, 1].map(|at| {
        arguments.words.get(at).filter(|word| !word.starts_with('-')).expect("usage: evaluate HAM SPAM [OPTIONS]")
    });
    let settings =
        arguments.all("--set").next().unwrap_or(if arguments.has("--no-bayes") { r#"{"bayes": false}"# } else { "{}" });
    let mut known = read(Path::new(ham), "ham", false);
    known.extend(read(Path::new(spam), "spam", true));
    let apart: Vec<Mail> = arguments.all("--apart").flat_map(read_apart).collect();
    let mut took = Duration::ZERO;
    let seen = if apart.is_empty() {
        let folds = arguments.all("--folds").next().map_or(5, |number| number.parse().expect("a number"));
        folded(&known, folds, settings, &mut took)
    } else {
        judge(&mut taught(known.iter(), settings), apart.iter(), &mut took)
    };
    report(&seen);
    println!(
        "{:.0} µs a message, native, host calls on the bench included",
        took.as_secs_f64() * 1e6 / seen.len() as f64
    );
    if arguments.has("--rules") {
        report_rules(&seen);
    }
    if arguments.has("--misses") {
        report_each(&seen, |one| if one.mail.is_spam { one.score < 5.0 } else { one.score >= 3.0 });
    }
    if arguments.has("--each") {
        report_each(&seen, |_| true);
    }
}

/// `NAME=KIND:FOLDER`
fn read_apart(text: &str) -> Vec<Mail> {
    let (name, rest) = text.split_once('=').expect("NAME=KIND:FOLDER");
    let (kind, folder) = rest.split_once(':').expect("NAME=KIND:FOLDER");
    read(Path::new(folder), name, kind == "spam")
}

fn read(folder: &Path, set: &str, is_spam: bool) -> Vec<Mail> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder of messages").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    let one = |path: PathBuf| {
        let mut octets = std::fs::read(&path).expect("a message");
        // The first line of an mbox message is no header.
        if octets.starts_with(b"From ") {
            octets.drain(..octets.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        }
        Mail { path, set: set.to_string(), is_spam, octets }
    };
    files.into_iter().map(one).collect()
}

fn folded<'a>(known: &'a [Mail], folds: usize, settings: &str, took: &mut Duration) -> Vec<Seen<'a>> {
    let mut seen = Vec::new();
    for fold in 0..folds {
        let (apart, part): (Vec<_>, Vec<_>) = known.iter().enumerate().partition(|(at, _)| at % folds == fold);
        let mut bench = taught(part.into_iter().map(|(_, mail)| mail), settings);
        seen.extend(judge(&mut bench, apart.into_iter().map(|(_, mail)| mail), took));
    }
    seen
}

fn taught<'a>(mails: impl Iterator<Item = &'a Mail>, settings: &str) -> Bench<SpamScore> {
    let mut bench = Bench::start(settings).expect("settings");
    if settings.contains(r#""bayes": false"#) {
        return bench;
    }
    for mail in mails {
        bench.client("127.0.0.1").letter(&mail.octets);
        bench.command(if mail.is_spam { "learn-spam" } else { "learn-ham" }, "").expect("learned");
    }
    bench
}

fn judge<'a>(
    bench: &mut Bench<SpamScore>,
    mails: impl Iterator<Item = &'a Mail>,
    took: &mut Duration,
) -> Vec<Seen<'a>> {
    let mut one = |mail: &'a Mail| {
        bench.client("198.51.100.7");
        bench.mail("sender@example.org").expect("no mail stage");
        bench.letter(&mail.octets);
        // The server has parsed before the plugin asks.
        bench.script().message.parts();
        let start = Instant::now();
        bench.message().expect("never fails");
        *took += start.elapsed();
        let facts: Vec<(String, f64)> =
            bench.script().scores.facts.iter().map(|fact| (fact.symbol.clone(), fact.weight)).collect();
        Seen { mail, score: facts.iter().map(|(_, weight)| weight).sum(), facts }
    };
    mails.map(&mut one).collect()
}

fn report(seen: &[Seen<'_>]) {
    let mut sets: Vec<(&str, bool)> = Vec::new();
    for one in seen {
        let set = (one.mail.set.as_str(), one.mail.is_spam);
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    print!("{:>16} {:>6} {:>9}", "folder", "kind", "messages");
    THRESHOLDS.iter().for_each(|at| print!("  from {at:.1}"));
    println!("   (called spam, %)");
    for (set, is_spam) in sets {
        let of: Vec<f64> = seen.iter().filter(|one| one.mail.set == set).map(|one| one.score).collect();
        print!("{set:>16} {:>6} {:>9}", if is_spam { "spam" } else { "ham" }, of.len());
        for required in THRESHOLDS {
            print!("{:10.2}", 100.0 * of.iter().filter(|score| **score >= required).count() as f64 / of.len() as f64);
        }
        println!();
    }
}

fn report_rules(seen: &[Seen<'_>]) {
    let mut hits: HashMap<&str, [usize; 2]> = HashMap::new();
    let mut count = [0usize; 2];
    for one in seen {
        count[usize::from(one.mail.is_spam)] += 1;
        for (fact, _) in &one.facts {
            hits.entry(fact).or_default()[usize::from(one.mail.is_spam)] += 1;
        }
    }
    println!("{:28} {:>8} {:>8} {:>6}", "rule", "spam %", "ham %", "weight");
    for (name, weight, _) in RULES {
        let [ham, spam] = hits.get(name).copied().unwrap_or_default();
        let share = |hits: usize, of: usize| 100.0 * hits as f64 / of.max(1) as f64;
        println!("{name:28} {:8.2} {:8.2} {weight:6.1}", share(spam, count[1]), share(ham, count[0]));
    }
}

/// Ham first, by score.
fn report_each(seen: &[Seen<'_>], wanted: impl Fn(&Seen<'_>) -> bool) {
    let mut chosen: Vec<&Seen<'_>> = seen.iter().filter(|one| wanted(one)).collect();
    chosen.sort_by(|a, b| a.mail.is_spam.cmp(&b.mail.is_spam).then(a.score.total_cmp(&b.score)));
    for one in chosen {
        let facts: Vec<String> = one.facts.iter().map(|(fact, weight)| format!("{fact}={weight:.1}")).collect();
        println!("{:5.1} {} {}", one.score, one.mail.path.display(), facts.join(" "));
    }
}
