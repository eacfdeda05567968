//! Facts, then decisions: the one place where what plugins stated is weighed and something follows from it.
//!
//! Plugins state facts, each with a weight; a plugin that decides by itself has been obeyed before this page is asked. Here the sum is
//! held against the thresholds of the recipients' domains at this door. Marks (a field, a tag in the subject) are put in where any, or
//! all, recipients want them; what keeps a message from its recipients (greylisting, holding, refusing) happens only as far as **every**
//! recipient's thresholds go, because there is one answer for all of them: nobody loses mail over somebody else's taste.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use waypost_types::{Domain, Edit, Enhanced, Fact, Message, Opinion, Recipient, Reply, header};

use crate::options::Greylist;

/// The field that tells what was decided, and on which facts. Forged ones are removed.
pub(crate) const FIELD: &str = "X-Waypost-Decision";
/// Octets of the record of a message's opinions and facts.
const RECORD_MAX: usize = 4096;
/// Facts that the field names.
const FIELD_FACTS_MAX: usize = 20;

/// From which sum on what happens; `None`: never.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// The name of the section, for log and replies to operators.
    pub name: Box<str>,
    /// Whether they hold for mail of users who have logged in and of our own hosts, too.
    pub own: bool,
    /// A field says so.
    pub header: Option<f64>,
    /// The subject begins with `tag`.
    pub subject: Option<f64>,
    /// What the subject begins with then.
    pub tag: Box<str>,
    /// Strangers are asked to come back.
    pub greylist: Option<f64>,
    /// Kept until an operator releases it.
    pub hold: Option<f64>,
    /// 550 5.7.1.
    pub refuse: Option<f64>,
    /// The text of the refusal.
    pub text: Box<str>,
}

/// What becomes of mail at one door. Of several thresholds for the same mail the first holds.
#[derive(Clone, Default)]
pub struct Decisions {
    /// For recipients of these domains.
    pub domains: Vec<(Domain, Arc<Thresholds>)>,
    /// For all others.
    pub others: Vec<Arc<Thresholds>>,
    /// How strangers are asked to come back.
    pub greylist: Option<Greylist>,
}

/// What keeps a message from its recipients, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    Not,
    Greylist,
    Hold,
    Refuse,
}

/// What follows.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) score: f64,
    pub(crate) stop: Stop,
    /// Whose thresholds decided.
    pub(crate) by: Arc<Thresholds>,
    pub(crate) mark: bool,
    pub(crate) tag: Option<Box<str>>,
}

impl Decisions {
    /// Whether nothing is ever decided here.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.others.is_empty()
    }

    fn of(&self, recipient: &Recipient, own: bool) -> Option<&Arc<Thresholds>> {
        let domain = recipient.address.host().domain();
        let listed = self.domains.iter().filter(|(listed, _)| Some(listed) == domain).map(|(_, thresholds)| thresholds);
        listed.chain(&self.others).find(|thresholds| thresholds.own || !own)
    }

    /// Weighs; `own` says that the mail is a logged-in user's or comes from a host of ours. `None` where no recipient's domain has
    /// thresholds.
    pub(crate) fn weigh(&self, score: f64, recipients: &[Recipient], own: bool) -> Option<Decision> {
        let mut decision: Option<Decision> = None;
        let mut spared = false;
        for recipient in recipients {
            let Some(thresholds) = self.of(recipient, own) else {
                spared = true;
                continue;
            };
            let own = thresholds.apply(score);
            decision = Some(match decision {
                None => own,
                Some(before) => before.and(own),
            });
        }
        let mut decision = decision?;
        if spared {
            (decision.stop, decision.tag) = (Stop::Not, None);
        }
        Some(decision)
    }
}

impl Thresholds {
    fn apply(self: &Arc<Thresholds>, score: f64) -> Decision {
        let reached = |limit: Option<f64>| limit.is_some_and(|limit| score >= limit);
        let stop = match () {
            () if reached(self.refuse) => Stop::Refuse,
            () if reached(self.hold) => Stop::Hold,
            () if reached(self.greylist) => Stop::Greylist,
            () => Stop::Not,
        };
        let tag = reached(self.subject).then(|| self.tag.clone());
        Decision { score, stop, by: self.clone(), mark: reached(self.header), tag }
    }
}

impl Decision {
    /// For both recipients: the milder stop, a tag that both want, a mark that either wants.
    fn and(self, other: Decision) -> Decision {
        let milder = if other.stop < self.stop { other.by } else { self.by };
        Decision {
            score: self.score,
            stop: self.stop.min(other.stop),
            by: milder,
            mark: self.mark || other.mark,
            tag: self.tag.filter(|_| other.tag.is_some()),
        }
    }

    /// One word for the log.
    pub(crate) fn word(&self) -> &'static str {
        match self.stop {
            Stop::Refuse => "refuse",
            Stop::Hold => "hold",
            Stop::Greylist => "greylist",
            Stop::Not if self.tag.is_some() => "subject",
            Stop::Not if self.mark => "header",
            Stop::Not => "pass",
        }
    }

    /// The refusal.
    pub(crate) fn refusal(&self) -> Reply {
        let text = if self.by.text.is_empty() { "this message is not wanted here" } else { &*self.by.text };
        Reply::new(550, Enhanced(5, 7, 1), text.to_string())
    }

    /// What is put into the message.
    pub(crate) fn edits(&self, message: &Message, facts: &[Fact]) -> Vec<Edit> {
        let mut edits = Vec::new();
        if let Some(tag) = &self.tag {
            tag_subject(message, tag, &mut edits);
        }
        if self.mark {
            let block = message.header_block();
            // A plugin that scores says so itself.
            if !header::fields(&block).any(|field| field.is("X-Spam-Flag")) {
                edits.push(Edit::PrependHeader { name: "X-Spam-Flag".into(), value: "YES".into() });
            }
        }
        if self.mark || self.tag.is_some() {
            edits.push(Edit::PrependHeader { name: FIELD.into(), value: self.field(facts) });
        }
        edits
    }

    fn field(&self, facts: &[Fact]) -> String {
        let mut value = format!("{}; score={:.1}; by={}", self.word(), self.score, self.by.name);
        for fact in facts.iter().filter(|fact| fact.weight != 0.0).take(FIELD_FACTS_MAX) {
            let _ = write!(value, ";\r\n\t{}={:.2}", fact.symbol, fact.weight);
        }
        value
    }
}

/// Puts the tag in front of the subject's text, unless it is there.
fn tag_subject(message: &Message, tag: &str, edits: &mut Vec<Edit>) {
    let block = message.header_block();
    let subject = header::fields(&block).find(|field| field.is("Subject"));
    let old = subject.as_ref().map(|field| String::from_utf8_lossy(field.value));
    let old: Cow<'_, str> = old.unwrap_or_default();
    let old = old.trim_start_matches([' ', '\t']).trim_end_matches(['\r', '\n']);
    if old.starts_with(tag) {
        return;
    }
    if subject.is_some() {
        edits.push(Edit::RemoveHeader { name: "Subject".into(), index: Some(0) });
    }
    edits.push(Edit::PrependHeader { name: "Subject".into(), value: format!("{tag} {old}").trim_end().to_string() });
}

/// The sum of what was stated.
pub(crate) fn score(facts: &[Fact]) -> f64 {
    // From 0.0 on: an empty sum of floats is −0.0.
    facts.iter().fold(0.0, |sum, fact| sum + fact.weight)
}

/// The whole *why* of a message, a line for each opinion, each fact and the decision; bounded, whatever plugins say.
pub(crate) fn record(opinions: &[Opinion], facts: &[Fact], decision: Option<&Decision>) -> Option<Box<str>> {
    if opinions.is_empty() && facts.is_empty() && decision.is_none() {
        return None;
    }
    let mut text = String::with_capacity(64 * (1 + opinions.len() + facts.len()));
    // The decision first: it must not be what is cut off.
    if let Some(decision) = decision {
        let _ = writeln!(text, "decision {} score={:.1} by={}", decision.word(), decision.score, decision.by.name);
    }
    for opinion in opinions {
        let Opinion { plugin, stage, verdict, micros, bytes_read, dns_asked, detail } = opinion;
        let _ = write!(text, "{plugin}@{}={verdict}({micros}µs", stage.word());
        if *bytes_read > 0 {
            let _ = write!(text, ", {bytes_read} octets");
        }
        if *dns_asked > 0 {
            let _ = write!(text, ", {dns_asked} DNS");
        }
        let _ = write!(text, ")");
        add_detail(&mut text, detail.as_deref());
        text.push('\n');
    }
    for fact in facts {
        let _ = write!(text, "{}: {} {:+.2}", fact.plugin, fact.symbol, fact.weight);
        add_detail(&mut text, fact.detail.as_deref());
        text.push('\n');
    }
    Some(cut(text).into())
}

/// A line of the record stays a line.
fn add_detail(text: &mut String, detail: Option<&str>) {
    if let Some(detail) = detail {
        text.push(' ');
        text.extend(detail.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
}

fn cut(mut text: String) -> String {
    const MARK: &str = "…";
    if text.len() > RECORD_MAX {
        let mut end = RECORD_MAX - MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::{Address, Stage};

    use super::*;

    fn thresholds(name: &str, refuse: f64) -> Arc<Thresholds> {
        Arc::new(Thresholds {
            name: name.into(),
            header: Some(3.0),
            subject: Some(5.0),
            tag: "[SPAM]".into(),
            hold: Some(refuse - 2.0),
            refuse: Some(refuse),
            ..Thresholds::default()
        })
    }

    fn to(text: &str) -> Recipient {
        Recipient::new(Address::parse(text).unwrap())
    }

    fn decisions() -> Decisions {
        let strict = Domain::parse("strict.example").unwrap();
        Decisions {
            domains: vec![(strict, thresholds("strict", 8.0))],
            others: vec![thresholds("mild", 15.0)],
            ..Decisions::default()
        }
    }

    #[test]
    fn the_sum_is_held_against_the_recipient_s_thresholds() {
        let word = |score, recipient: &str| decisions().weigh(score, &[to(recipient)], false).unwrap().word();
        assert_eq!(word(2.9, "a@strict.example"), "pass");
        assert_eq!(word(3.0, "a@strict.example"), "header");
        assert_eq!(word(5.0, "a@strict.example"), "subject");
        assert_eq!(word(6.0, "a@strict.example"), "hold");
        assert_eq!(word(8.0, "a@strict.example"), "refuse");
        assert_eq!(word(8.0, "a@other.example"), "subject");
        assert_eq!(word(15.0, "a@other.example"), "refuse");
    }

    #[test]
    fn of_several_recipients_the_mildest_decides_what_keeps_mail_away() {
        let both = [to("a@strict.example"), to("b@other.example")];
        assert_eq!(decisions().weigh(8.0, &both, false).unwrap().word(), "subject");
        assert_eq!(decisions().weigh(13.0, &both, false).unwrap().word(), "hold");
        assert_eq!(&*decisions().weigh(13.0, &both, false).unwrap().by.name, "mild");
        let strict_only = Decisions { others: Vec::new(), ..decisions() };
        let decision = strict_only.weigh(20.0, &both, false).unwrap();
        assert_eq!((decision.word(), decision.stop), ("header", Stop::Not));
        assert!(strict_only.weigh(20.0, &both[1..], false).is_none());
        assert!(
            strict_only.weigh(20.0, &both[..1], true).is_none(),
            "mail of our own is not weighed unless the port is named"
        );
    }

    #[test]
    fn the_subject_gets_its_tag_once() {
        let tagged = |text: &str| {
            let mut edits = Vec::new();
            tag_subject(&Message::new(Bytes::from(text.to_string())), "[SPAM]", &mut edits);
            edits
        };
        let edits = tagged("A: 1\r\nSubject: Hi\r\n there\r\n\r\n");
        assert_eq!(edits[0], Edit::RemoveHeader { name: "Subject".into(), index: Some(0) });
        assert_eq!(edits[1], Edit::PrependHeader { name: "Subject".into(), value: "[SPAM] Hi\r\n there".into() });
        assert_eq!(tagged("Subject: [SPAM] Hi\r\n\r\n"), []);
        assert_eq!(tagged("A: 1\r\n\r\n"), [Edit::PrependHeader { name: "Subject".into(), value: "[SPAM]".into() }]);
    }

    #[test]
    fn the_record_is_bounded_and_begins_with_the_decision() {
        let opinion = Opinion {
            plugin: "lists".into(),
            stage: Stage::Rcpt,
            verdict: "pass",
            detail: None,
            micros: 12,
            bytes_read: 0,
            dns_asked: 3,
        };
        let fact = Fact { plugin: "lists".into(), symbol: "LISTED".into(), weight: 9.0, detail: Some("why".into()) };
        let decision = decisions().weigh(9.0, &[to("a@strict.example")], false);
        let text = record(&[opinion], std::slice::from_ref(&fact), decision.as_ref()).unwrap();
        assert_eq!(
            &*text,
            "decision refuse score=9.0 by=strict\nlists@rcpt=pass(12µs, 3 DNS)\nlists: LISTED +9.00 why"
        );
        let text = record(&[], &vec![Fact { detail: Some("ä".repeat(500)), ..fact }; 50], None).unwrap();
        assert!(text.len() <= RECORD_MAX && text.ends_with('…'));
        assert_eq!(record(&[], &[], None), None);
    }
}
