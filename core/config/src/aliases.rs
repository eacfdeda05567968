//! `[aliases]`: files in the format of aliases(5) and names written in the configuration, and whether they lead to somebody.

use std::collections::BTreeSet;
use std::path::Path;

use waypost_route::{Alias, AliasKey, Target, parse_aliases};

use crate::mistake::{Mistake, Place, nearest};
use crate::sheet::Sheet;
use crate::value::plain_error;

/// Octets of an alias file or an included one.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Reads all aliases. `mailboxes` are the names that exist; `open` says that there are tables of more.
pub(crate) fn read(
    sheet: &Sheet,
    mailboxes: &[String],
    open: bool,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) -> Vec<Alias> {
    let mut aliases = Vec::new();
    for file in sheet.paths("aliases.files").unwrap_or_default() {
        aliases.extend(read_file(&file, sheet, mistakes));
    }
    for (name, targets, place) in sheet.map("aliases.names") {
        match Alias::parse(name, &targets.join(", "), include(Path::new("."))) {
            Ok(alias) => aliases.push((alias, place.clone())),
            Err(text) => mistakes.push(Mistake::new(place.clone(), format!("the alias `{name}`: {text}"), WRITE)),
        }
    }
    let known: BTreeSet<String> = mailboxes.iter().map(|name| name.to_lowercase()).chain(names(&aliases)).collect();
    if !open {
        aliases.iter().for_each(|(alias, place)| lead_somewhere(alias, place, &known, mistakes));
    }
    if !sheet.domains("domains.own").is_empty() && !open && !known.iter().any(|name| name.starts_with("postmaster")) {
        notes.push(
            "nobody receives mail to postmaster, which RFC 5321 asks of everyone: add it to [aliases.names]".into(),
        );
    }
    aliases.into_iter().map(|(alias, _)| alias).collect()
}

const WRITE: &str = "write a local part, user@domain, or @domain for all of a domain, and mailboxes or addresses behind it; aliases here run no programs and write no files";

fn read_file(file: &Path, sheet: &Sheet, mistakes: &mut Vec<Mistake>) -> Vec<(Alias, Place)> {
    let text = match read_text(file) {
        Ok(text) => text,
        Err(problem) => {
            mistakes.push(Mistake::new(sheet.place("aliases.files"), problem, "correct `aliases.files`"));
            return Vec::new();
        }
    };
    let name = file.display().to_string();
    let at = |line: u32| Place::file(&name, line.max(1), 1);
    match parse_aliases(&text, include(file.parent().unwrap_or(Path::new(".")))) {
        Ok(aliases) => {
            aliases.into_iter().map(|alias| (at(alias.line), alias)).map(|(at, alias)| (alias, at)).collect()
        }
        Err(wrong) => {
            let remedy = "each line is `name: target, target`; a line that begins with a blank goes on";
            mistakes.extend(wrong.into_iter().map(|wrong| Mistake::new(at(wrong.line), wrong.text, remedy)));
            Vec::new()
        }
    }
}

/// How an included file is read: relative to the file that includes it.
fn include(base: &Path) -> impl FnMut(&str) -> Result<String, String> {
    let base = base.to_path_buf();
    move |path| read_text(&base.join(path))
}

fn read_text(file: &Path) -> Result<String, String> {
    let about =
        std::fs::metadata(file).map_err(|error| format!("cannot read {}: {}", file.display(), plain_error(&error)))?;
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        return Err(format!("{} is no file of a sensible size", file.display()));
    }
    std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {}", file.display(), plain_error(&error)))
}

fn names(aliases: &[(Alias, Place)]) -> impl Iterator<Item = String> {
    aliases.iter().map(|(alias, _)| shown(&alias.key).to_lowercase())
}

fn shown(key: &AliasKey) -> String {
    match key {
        AliasKey::Name(name) => name.to_string(),
        AliasKey::Address(address) => address.to_string(),
        AliasKey::CatchAll(host) => format!("@{host}"),
    }
}

fn lead_somewhere(alias: &Alias, place: &Place, known: &BTreeSet<String>, mistakes: &mut Vec<Mistake>) {
    for target in &alias.targets {
        let (Target::Name(name) | Target::Mailbox(name)) = target else { continue };
        let plain = name.split(['+', '-', '=']).next().unwrap_or(name).to_lowercase();
        if known.contains(&name.to_lowercase()) || known.contains(&plain) {
            continue;
        }
        let create =
            "create the mailbox with `waypost user add`, list it in `users.mailboxes`, or write a full address";
        let remedy = match nearest(name, known.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`? Otherwise {create}"),
            None => create.to_string(),
        };
        let problem = format!("the alias `{}` leads to `{name}`, which is no mailbox", shown(&alias.key));
        mistakes.push(Mistake::new(place.clone(), problem, remedy));
    }
}
