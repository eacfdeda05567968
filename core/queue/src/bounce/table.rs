//! What a reply or a diagnosis means: categories, found by parts of the text, then by status, then by code.
//!
//! The same table judges what receivers say to us and what bounces tell us, so that both are counted alike. Texts come first, in the table's order:
//! they are what receivers write when the code says less than they know (`550 5.7.1 … mailbox full`).

use std::sync::Arc;

use memchr::memmem::Finder;
use waypost_types::{Enhanced, Reply};

/// How a category is recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    /// Parts of the text, in any case.
    pub texts: Vec<Box<str>>,
    /// Statuses: `5.1.1`, `x.2.2` (of any class), `5.7.x` (any detail).
    pub statuses: Vec<StatusPattern>,
}

/// One category.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// Its name: `bad-mailbox`.
    pub name: Arc<str>,
    /// The address itself is no good: mail to it will never be taken.
    pub hard: bool,
    /// How it is recognised.
    pub patterns: Patterns,
}

/// A status with places left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusPattern(Option<u8>, Option<u16>, Option<u16>);

impl std::str::FromStr for StatusPattern {
    type Err = ();

    fn from_str(text: &str) -> Result<StatusPattern, ()> {
        let parts: Vec<&str> = text.split('.').collect();
        let [class, subject, detail] = parts.as_slice() else { return Err(()) };
        let open = |part: &str| part == "x";
        let number = |part: &str| if open(part) { Ok(None) } else { part.parse::<u16>().map(Some).map_err(|_| ()) };
        let class = match *class {
            "x" => None,
            "2" => Some(2),
            "4" => Some(4),
            "5" => Some(5),
            _ => return Err(()),
        };
        Ok(StatusPattern(class, number(subject)?, number(detail)?))
    }
}

impl StatusPattern {
    fn fits(self, Enhanced(class, subject, detail): Enhanced) -> bool {
        self.0.is_none_or(|own| own == class)
            && self.1.is_none_or(|own| own == subject)
            && self.2.is_none_or(|own| own == detail)
    }
}

/// What readers report of mail (RFC 5965): not found by patterns.
pub const COMPLAINT: &str = "complaint";
/// What no pattern fits.
pub const OTHER: &str = "other";

/// All categories, in order.
#[derive(Clone, Debug)]
pub struct Table {
    /// Each with what finds its texts, made once.
    categories: Arc<[(Category, Vec<Finder<'static>>)]>,
    other: Arc<Category>,
}

impl Default for Table {
    fn default() -> Table {
        Table::new(Vec::new())
    }
}

impl Table {
    /// Of these.
    pub fn new(categories: Vec<Category>) -> Table {
        let with_finders = |category: Category| {
            let texts = category.patterns.texts.iter();
            let finders = texts.map(|text| Finder::new(text.to_lowercase().as_bytes()).into_owned()).collect();
            (category, finders)
        };
        let categories = categories.into_iter().map(with_finders).collect();
        let other = Category { name: OTHER.into(), hard: false, patterns: Patterns::default() };
        Table { categories, other: Arc::new(other) }
    }

    /// The category of a reply that was not positive.
    pub fn of_reply(&self, reply: &Reply) -> &Category {
        self.of(&reply.text, Some(reply.status()))
    }

    /// The category of a diagnosis.
    pub fn of(&self, text: &str, status: Option<Enhanced>) -> &Category {
        let lower = text.to_lowercase();
        let said = |finders: &[Finder<'static>]| finders.iter().any(|finder| finder.find(lower.as_bytes()).is_some());
        let by_text = self.categories.iter().find(|(_, finders)| said(finders));
        let by_status = || {
            let fits = |pattern: &StatusPattern| status.is_some_and(|status| pattern.fits(status));
            self.categories.iter().find(|(one, _)| one.patterns.statuses.iter().any(fits))
        };
        by_text.or_else(by_status).map_or(&self.other, |(category, _)| category)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(name: &str, texts: &[&str], statuses: &[&str]) -> Category {
        let texts = texts.iter().map(|text| Box::from(*text)).collect();
        let statuses = statuses.iter().map(|text| text.parse().expect("a pattern")).collect();
        Category { name: name.into(), hard: false, patterns: Patterns { texts, statuses } }
    }

    #[test]
    fn texts_come_before_statuses_and_both_before_other() {
        let table = Table::new(vec![
            category("full", &["Mailbox FULL"], &["x.2.2"]),
            category("policy", &[], &["5.7.x"]),
            category("bad", &[], &["5.1.1"]),
        ]);
        let name = |reply: &Reply| table.of_reply(reply).name.to_string();
        assert_eq!(name(&Reply::new(550, Enhanced(5, 7, 1), "the mailbox full of mail")), "full");
        assert_eq!(name(&Reply::new(452, Enhanced(4, 2, 2), "later")), "full");
        assert_eq!(name(&Reply::new(550, Enhanced(5, 7, 26), "no")), "policy");
        assert_eq!(name(&Reply::new(550, Enhanced(5, 1, 1), "no")), "bad");
        assert_eq!(name(&Reply::new(550, Enhanced(5, 1, 2), "no")), "other");
        assert_eq!(name(&Reply::plain(550, "no")), "other");
        for bad in ["5.1", "6.1.1", "5.1.1.1", "5.a.1", ""] {
            assert!(bad.parse::<StatusPattern>().is_err(), "{bad}");
        }
    }
}
