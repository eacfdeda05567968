//! What replies and bounces mean: the shipped categories, and a file of the operator's over them; and `[bounces]`, checked.
//!
//! [`SHIPPED`] explains its own form; every mistake in a file is told with its line, as everywhere.

use std::path::Path;

use waypost_types::{Address, Domain};

use crate::mistake::{Mistake, Mistakes, nearest};
use crate::model::{Bounces, Mailer};
use crate::raw::{Item, Raw, parse_file};
use crate::setting::Kind;
use crate::shaping::{Page, texts};
use crate::sheet::Sheet;
use crate::value::{Reader, Value, subsection};

/// The categories that come with the program.
pub const SHIPPED: &str = include_str!("bounces.toml");

/// What readers report.
const COMPLAINT: &str = "complaint";
/// All categories that say that an address is no good.
const HARD: &str = "hard";

/// One `[category.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// The section's name.
    pub name: String,
    /// `hard`.
    pub hard: bool,
    /// `text`.
    pub texts: Vec<String>,
    /// `status`: three parts, each a number or `x`.
    pub statuses: Vec<String>,
}

const CATEGORY: &[(&str, Kind)] =
    &[("hard", Kind::Flag), ("text", Kind::List(&Kind::Text)), ("status", Kind::List(&Kind::Text))];

/// The shipped categories.
///
/// # Panics
/// Never: a test reads them.
pub fn shipped() -> Vec<Category> {
    parse("bounces.toml", SHIPPED).expect("the shipped categories are read by a test")
}

/// Categories as text.
pub fn parse(name: &str, text: &str) -> Result<Vec<Category>, Mistakes> {
    let mut mistakes = Vec::new();
    let categories = read(name, text, &mut mistakes);
    if mistakes.is_empty() { Ok(categories) } else { Err(Mistakes(mistakes)) }
}

/// The shipped categories with those of a file in front of them.
fn with_file(file: Option<&Path>, mistakes: &mut Vec<Mistake>) -> Vec<Category> {
    let mut all = shipped();
    let Some(file) = file else { return all };
    // That it can be read was checked with the setting that names it.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let own = read(&file.display().to_string(), &text, mistakes);
    all.retain(|shipped| own.iter().all(|category| category.name != shipped.name));
    own.into_iter().chain(all).collect()
}

fn read(name: &str, text: &str, mistakes: &mut Vec<Mistake>) -> Vec<Category> {
    let table = parse_file(name, text, mistakes);
    let base = Path::new("");
    let mut page = Page { reader: Reader { file_base: base, override_base: base, mistakes: Vec::new() } };
    page.only(&table, &["category"], "a file of patterns holds sections [category.NAME]");
    let mut sections: Vec<_> = subsection(&table, "category").into_iter().flatten().collect();
    // In the order in which they are written, which is the one in which they are looked at.
    sections.sort_by_key(|(_, entry)| entry.key_place.clone());
    let categories = sections.into_iter().filter_map(|(name, entry)| category(&mut page, name, &entry.item)).collect();
    mistakes.append(&mut page.reader.mistakes);
    categories
}

fn category(page: &mut Page<'_>, name: &str, item: &Item) -> Option<Category> {
    let path = format!("category.{name}");
    let Raw::Table(table) = &item.raw else {
        page.wrong(item, format!("`{path}` is no section"), "write [category.NAME]");
        return None;
    };
    let known: Vec<&str> = CATEGORY.iter().map(|(leaf, _)| *leaf).collect();
    page.only(table, &known, &format!("a category has {}", known.join(", ")));
    if [COMPLAINT, HARD, "other", "operator"].contains(&name) {
        page.wrong(item, format!("`{path}`: `{name}` is taken"), "choose another name");
    }
    let values = page.values(&path, table, CATEGORY);
    let list = |at: usize| values[at].iter().flat_map(texts).collect::<Vec<String>>();
    let category = Category {
        name: name.to_string(),
        hard: values[0] == Some(Value::Flag(true)),
        texts: list(1),
        statuses: list(2),
    };
    for status in category.statuses.iter().filter(|status| !is_status(status)) {
        page.wrong(item, format!("`{path}.status`: `{status}` is no status"), "write 5.1.1, x.2.2 or 5.7.x");
    }
    if category.texts.iter().any(|text| text.trim().is_empty()) {
        page.wrong(item, format!("`{path}.text` has an empty one, which fits everything"), "take it out");
    }
    if category.texts.is_empty() && category.statuses.is_empty() {
        page.wrong(item, format!("`{path}` fits nothing"), "give it `text` or `status`");
    }
    Some(category)
}

fn is_status(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let number = |part: &str| part == "x" || part.parse::<u16>().is_ok_and(|number| number < 1000);
    matches!(parts.as_slice(), [class, subject, detail] if ["x", "2", "4", "5"].contains(class) && number(subject) && number(detail))
}

/// Checks `[bounces]` and makes what it means.
pub(crate) fn check(sheet: &Sheet, data: &Path, mistakes: &mut Vec<Mistake>) -> Bounces {
    let categories = with_file(sheet.path("bounces.patterns"), mistakes);
    let mut suppress = Vec::new();
    let known: Vec<&str> = categories.iter().map(|one| one.name.as_str()).chain([COMPLAINT, HARD]).collect();
    for name in sheet.texts("bounces.suppress").unwrap_or_default() {
        if name == HARD {
            suppress.extend(categories.iter().filter(|one| one.hard).map(|one| one.name.clone()));
        } else if known.contains(&name) {
            suppress.push(name.to_string());
        } else {
            let remedy = nearest(name, known.iter().copied())
                .map_or_else(|| format!("one of {}", known.join(", ")), |meant| format!("did you mean `{meant}`?"));
            let problem = format!("`bounces.suppress`: there is no category `{name}`");
            mistakes.push(Mistake::new(sheet.place("bounces.suppress"), problem, remedy));
        }
    }
    let span = |path: &str| sheet.span(path).filter(|span| !span.is_zero());
    Bounces {
        recognise: sheet.flag("bounces.recognise").unwrap_or(true),
        categories,
        remember: span("bounces.remember"),
        verp: mailers(sheet, mistakes),
        verp_key: data.join("verp-key"),
        suppress,
        suppress_for: span("bounces.suppress-for"),
    }
}

fn mailers(sheet: &Sheet, mistakes: &mut Vec<Mistake>) -> Vec<Mailer> {
    let given = sheet.texts("bounces.verp").unwrap_or_default();
    let mut wrong = |problem: String, remedy: &str| {
        mistakes.push(Mistake::new(sheet.place("bounces.verp"), problem, remedy));
    };
    let separators = sheet.text("users.separator").unwrap_or_default();
    if !given.is_empty() && !separators.contains(['+', '-']) {
        wrong(
            "`bounces.verp` makes subaddresses, and there are none: `users.separator` has no + and no -".into(),
            "set users.separator = \"+\"",
        );
    }
    let mut mailers = Vec::new();
    for text in given {
        let mailer = match text.strip_prefix('@') {
            Some(domain) => Domain::parse(domain).ok().map(Mailer::Domain),
            None => Address::parse(text).ok().map(Mailer::Address),
        };
        match mailer {
            Some(mailer) => mailers.push(mailer),
            None => wrong(format!("`bounces.verp`: `{text}` is no sender"), "write news@example.com or @example.com"),
        }
    }
    mailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_categories_are_read_in_their_order() {
        let all = shipped();
        let at = |name: &str| all.iter().position(|one| one.name == name).unwrap_or_else(|| panic!("no {name}"));
        assert!(at("block-list") < at("spam") && at("full") < at("bad-mailbox") && at("tls") < at("policy"));
        let hard: Vec<_> = all.iter().filter(|one| one.hard).map(|one| one.name.as_str()).collect();
        assert_eq!(hard, ["inactive", "bad-mailbox", "bad-domain"]);
        assert!(all.iter().all(|one| one.texts.iter().all(|text| text.len() > 3)), "short texts fit by accident");
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let text = "[category.a]\ntext = [\"\"]\n[category.b]\nstatus = \"5.1\"\n[category.c]\nhard = true\n[category.d]\ntexts = \"x\"\nstatus = \"5.1.1\"\n[category.complaint]\ntext = \"xyzz\"\n";
        let Err(Mistakes(mistakes)) = parse("own.toml", text) else { panic!("five mistakes") };
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        for part in ["fits everything", "no status", "fits nothing", "did you mean `text`", "is taken"] {
            assert!(told.iter().any(|mistake| mistake.contains(part)), "no {part} in {told:#?}");
        }
        assert_eq!(told.len(), 5, "{told:#?}");
    }
}
