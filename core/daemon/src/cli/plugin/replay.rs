//! `waypost plugin replay`: recorded transactions put to another version, and what it would have said otherwise.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::Which;
use super::case::{self, Case, Was};
use super::play::Transcript;
use super::recipe::Subject;
use super::test::{files, loaded, said, try_loaded};
use super::world::World;
use crate::cli::Common;
use crate::recorder;

/// Plays recorded transactions against a plugin, and tells where it differs.
#[derive(Args)]
#[command(
    after_help = "With `record.share` in its configuration a server keeps a share of its transactions in the folder `recorded` of its data folder: the message, what \
    DNS said, and what each plugin said. They are compared with that, or with another version given by --against.\n\n\
    Examples:\n  waypost plugin replay new.wasm --name spam-score --data /var/lib/waypost\n  waypost plugin replay new.wasm --name spam-score --against old.wasm recorded/"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Recorded transactions, or folders of them; `recorded` in the data folder if none are named
    recorded: Vec<PathBuf>,
    /// The plugin's name in the server's chain; the component's own if not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Compare with this version instead of what was recorded
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// As JSON, an object for each difference
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let mut new = Subject::find(&arguments.which)?;
    arguments.name.iter().for_each(|name| new.name.clone_from(name));
    let config = arguments.common.load_without_plugins()?;
    new.adopt(&config);
    let old = arguments.against.as_ref().map(|file| {
        let which = Which { plugin: file.clone(), ..arguments.which.clone() };
        let mut old = Subject::find(&which)?;
        old.name.clone_from(&new.name);
        old.adopt(&config);
        anyhow::Ok(old)
    });
    let old = old.transpose()?;
    let folders = match arguments.recorded.as_slice() {
        [] => vec![config.data.join(recorder::FOLDER)],
        named => named.to_vec(),
    };
    let paths = folders.iter().map(|path| files(path)).collect::<Result<Vec<_>>>()?.concat();
    if paths.is_empty() {
        bail!("nothing is recorded there: set `record.share` in the server's configuration, or name a folder");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut played, mut differ, mut unknown) = (0, 0, 0);
    for path in &paths {
        for case in case::read(path)? {
            let before = match &old {
                Some(old) => Some(Was::of(&runtime.block_on(play(old, &case))?)),
                None => case.was.get(&new.name).cloned(),
            };
            let Some(before) = before else {
                unknown += 1;
                continue;
            };
            let after = Was::of(&runtime.block_on(play(&new, &case))?);
            played += 1;
            if before.same_as(&after) {
                continue;
            }
            differ += 1;
            tell(arguments.json, &case, &before, &after);
        }
    }
    if played == 0 {
        bail!("no recorded transaction was put to a plugin called {}: name it with --name", new.name);
    }
    if !arguments.json {
        println!(
            "{played} transactions, {differ} judged otherwise{}",
            match unknown {
                0 => String::new(),
                count => format!("; {count} were not put to {}", new.name),
            }
        );
    }
    Ok(())
}

/// Facts of other plugins are what they were.
async fn play(subject: &Subject, case: &Case) -> Result<Transcript> {
    let mut case = case.clone();
    for (plugin, was) in &case.was {
        if *plugin != subject.name {
            case.facts.extend(was.facts.iter().map(|(symbol, weight)| (symbol.clone(), *weight)));
        }
    }
    let mut world = World::new()?;
    let options = subject.options()?;
    let plugins = loaded(subject, &options, &mut world, &case).await?;
    try_loaded(&plugins, &case).await
}

fn tell(as_json: bool, case: &Case, before: &Was, after: &Was) {
    if as_json {
        println!("{}", json!({ "case": case.name, "before": before.text(), "after": after.text() }));
        return;
    }
    println!("{}\n    was: {}\n    now: {}", case.name, before.text(), after.text());
    let symbols = |was: &Was| was.facts.iter().map(|(symbol, weight)| format!("{symbol} {weight}")).collect::<Vec<_>>();
    let (there, here) = (symbols(before), symbols(after));
    there.iter().filter(|fact| !here.contains(fact)).for_each(|fact| println!("      - {fact}"));
    here.iter().filter(|fact| !there.contains(fact)).for_each(|fact| println!("      + {fact}"));
}

impl Was {
    /// What a transcript comes to.
    fn of(got: &Transcript) -> Was {
        let (_, text) = said(got);
        Was {
            verdict: got.word().to_string(),
            stage: got.stage.map(|stage| stage.word().to_string()),
            text: Some(text).filter(|text| !text.is_empty()),
            facts: got.facts.iter().map(|fact| (fact.symbol.clone(), fact.weight)).collect(),
        }
    }

    fn same_as(&self, other: &Was) -> bool {
        let sorted = |was: &Was| {
            let mut facts: Vec<String> =
                was.facts.iter().map(|(symbol, weight)| format!("{symbol} {weight:.6}")).collect();
            facts.sort();
            facts
        };
        (&self.verdict, &self.stage, &self.text) == (&other.verdict, &other.stage, &other.text)
            && sorted(self) == sorted(other)
    }

    fn text(&self) -> String {
        let stage = self.stage.as_ref().map(|stage| format!(" at {stage}")).unwrap_or_default();
        let text = self.text.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        format!("{}{stage}{text}", self.verdict)
    }
}
