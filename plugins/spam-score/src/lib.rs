//! Scores messages by rules, and says so in headers that any mail program can file by.
//!
//! At stage `message` it reads the header block and the first 64 KiB of decoded text, applies the rules of [`rules`], asks the
//! classifier of [`learn`] where the key-value store is granted, adds what other plugins stated, and puts in `X-Spam-Score`,
//! `X-Spam-Status`, `X-Spam-Level` and, for spam, `X-Spam-Flag`. It never refuses for what a message says unless told to by
//! `refuse-at`. Forged `X-Spam-*` fields are taken out.
//!
//! It is taught by commands (`waypost spam`), and by mail of our own users to addresses set up for it.

pub mod bayes;
pub mod body_rules;
pub mod client;
pub mod config;
pub mod date;
pub mod encoded;
pub mod header_rules;
pub mod html;
pub mod learn;
pub mod letter;
pub mod link;
pub mod origin_rules;
pub mod phrases;
pub mod rules;
pub mod text;
pub mod tokens;

use body_rules::Body;
use config::Config;
use learn::{Kind, Memory};
use letter::Headers;
use phrases::Phrases;
use rules::{Hits, Rule};
use waypost_sdk::facts::WHITELISTED;
use waypost_sdk::types::Part;
use waypost_sdk::{Action, BodyNeed, Host, Outcome, Plugin, Registration};

/// Octets of the header block that are looked at.
const HEADERS_MAX: usize = 64 << 10;
/// Fields that only we may put in.
const OURS: [(&str, &str); 4] = [
    ("X-Spam-Score", "x-spam-score"),
    ("X-Spam-Status", "x-spam-status"),
    ("X-Spam-Flag", "x-spam-flag"),
    ("X-Spam-Level", "x-spam-level"),
];
/// Recipients that are looked at.
const RECIPIENTS_MAX: usize = 10;
/// Messages attached to one that teaches.
const ATTACHED_MAX: usize = 20;
/// Stars in `X-Spam-Level`.
const LEVEL_MAX: usize = 50;

/// The plugin.
pub struct SpamScore {
    config: Config,
    weights: Vec<f64>,
    phrases: Phrases,
    memory: Memory,
    /// Whether there is a store to keep counters in.
    bayes: bool,
}

impl Plugin for SpamScore {
    fn init(host: &Host) -> Result<(Self, Registration), String> {
        let config: Config = waypost_sdk::settings(host)?;
        config.check()?;
        let weights = config.all_weights()?;
        let bayes = config.bayes && host.env().granted("kv");
        let registration = Registration::new("spam-score", env!("CARGO_PKG_VERSION")).reading(BodyNeed::FULL);
        let sees_own = config.score_own || (bayes && config.teaches());
        let registration = if sees_own { registration } else { registration.only_inbound() };
        Ok((SpamScore { config, weights, phrases: Phrases::new(), memory: Memory::default(), bayes }, registration))
    }

    fn message(&mut self, host: &Host) -> Outcome {
        let own = host.session().is_own();
        if own && self.bayes && self.config.teaches() && self.taught(host) {
            return Ok(Action::Discard);
        }
        let block = block(host);
        let headers = Headers::parse(&block);
        remove_forged(host, &headers);
        if (own && !self.config.score_own) || host.scores().has(WHITELISTED) {
            return Ok(Action::Next);
        }
        let hits = self.hits(host, &headers);
        let total = self.own_score(&hits) + host.scores().total();
        self.tell(host, &hits, total);
        Ok(self.action(total))
    }

    fn command(&mut self, host: &Host, name: &str, domain: &str) -> Result<String, String> {
        if name == "score" {
            return Ok(self.score_text(host));
        }
        if !self.bayes {
            return Err("the classifier is off: grant `kv` to spam-score, and do not set `bayes = false`".into());
        }
        if !domain.is_empty() && !self.config.per_domain.iter().any(|known| known.eq_ignore_ascii_case(domain)) {
            return Err(format!("{domain} has no classifier of its own: add it to `per-domain` of spam-score"));
        }
        let domain = domain.to_ascii_lowercase();
        let kind = match name {
            "learn-spam" => Some(Kind::Spam),
            "learn-ham" => Some(Kind::Ham),
            "forget" => None,
            "forget-all" => {
                self.memory.forget_all(host);
                return Ok("forgotten".into());
            }
            "stats" => return Ok(self.stats_text(host)),
            _ => {
                return Err(format!("no command `{name}`: learn-spam, learn-ham, forget, forget-all, stats or score"));
            }
        };
        let (parts, body) = self.read_text(host);
        self.memory.tokens.gather(&Headers::parse(&block(host)), &parts, &body);
        Ok(self.memory.learn(host, &domain, kind, self.config.lifetime_s()).word().into())
    }
}

impl SpamScore {
    /// Applies all rules, the classifier's among them.
    pub fn hits(&mut self, host: &Host, headers: &Headers) -> Hits {
        let mut hits = Hits::default();
        let recipients: Vec<String> =
            host.envelope().recipients().into_iter().take(RECIPIENTS_MAX).map(|recipient| recipient.address).collect();
        header_rules::apply(headers, (host.env().now_ms() / 1000) as i64, &recipients, &mut hits);
        let (parts, body) = self.read_text(host);
        body_rules::apply(headers, &parts, &body, &self.phrases, &mut hits);
        origin_rules::apply(host, headers, &body, &mut hits);
        if let Some(domain) = self.classifier(host, &recipients) {
            self.memory.tokens.gather(headers, &parts, &body);
            if let Some(likely) = self.memory.classify(host, &domain, self.config.learned_min) {
                rules::on_classified(likely, &mut hits);
            }
        }
        hits
    }

    /// The parts, and the text of those that hold text, within the bound.
    fn read_text(&self, host: &Host) -> (Vec<Part>, Body) {
        let parts = host.message().parts();
        let body = self.read(host, parts.iter());
        (parts, body)
    }

    fn read<'a>(&self, host: &Host, parts: impl Iterator<Item = &'a Part>) -> Body {
        let mut body = Body::default();
        let mut left = self.config.read_bytes_max;
        for part in parts.filter(|part| is_read(part)) {
            let content = host.message().read_part(&part.path, 0, left);
            body.add(&part.mime_type, &content);
            left = left.saturating_sub(content.len() as u32);
            if left == 0 {
                break;
            }
        }
        body
    }

    /// The classifier to ask: that of the recipients' domain, where it has one of its own that was taught enough, or else everybody's
    /// (empty). `None` where nobody has taught enough: then a message need not be taken apart into tokens.
    fn classifier(&mut self, host: &Host, recipients: &[String]) -> Option<String> {
        if !self.bayes {
            return None;
        }
        let min = self.config.learned_min;
        let own = self.config.own_classifier(recipients);
        own.into_iter().chain([String::new()]).find(|domain| {
            let (spam, ham) = self.memory.learned(host, domain);
            spam.min(ham) >= min
        })
    }

    /// Learns what a user of ours sent to a learning address: each message attached, or else the text. Says whether the message
    /// was for nobody else.
    fn taught(&mut self, host: &Host) -> bool {
        let recipients = host.envelope().recipients();
        let kind = |address: &str| self.config.teaching(address);
        let mut kinds: Vec<_> = recipients.iter().filter_map(|recipient| kind(&recipient.address)).collect();
        let for_nobody_else = kinds.len() == recipients.len();
        kinds.dedup();
        let [kind] = kinds[..] else { return false };
        let sender = host.envelope().sender();
        let domain = self.config.own_classifier(std::slice::from_ref(&sender)).unwrap_or_default();
        let parts = host.message().parts();
        let attached: Vec<&Part> = parts.iter().filter(|part| part.mime_type == "message/rfc822").collect();
        for nested in attached.iter().take(ATTACHED_MAX) {
            let raw = host.message().read_part(&nested.path, 0, HEADERS_MAX as u32);
            let block = memchr::memmem::find(&raw, b"\r\n\r\n").map_or(&raw[..], |end| &raw[..end + 2]);
            let below = format!("{}.", nested.path);
            let inner: Vec<Part> = parts.iter().filter(|part| part.path.starts_with(&below)).cloned().collect();
            let body = self.read(host, inner.iter());
            self.memory.tokens.gather(&Headers::parse(block), &inner, &body);
            self.learn_and_say(host, &domain, kind);
        }
        if attached.is_empty() {
            // Forwarded inline: the header block is that of the user's own mail.
            let body = self.read(host, parts.iter());
            self.memory.tokens.gather(&Headers::parse(b""), &[], &body);
            self.learn_and_say(host, &domain, kind);
        }
        for_nobody_else
    }

    fn learn_and_say(&mut self, host: &Host, domain: &str, kind: Kind) {
        let change = self.memory.learn(host, domain, Some(kind), self.config.lifetime_s());
        let who = host.session().auth_user().unwrap_or_default();
        host.env().info(&format!("{}: {kind:?} by mail of {who}", change.word()));
    }

    /// The sum of the weights of what was hit.
    pub fn own_score(&self, hits: &Hits) -> f64 {
        // From 0.0 on: an empty sum of floats is −0.0.
        hits.iter().fold(0.0, |sum, (rule, factor)| sum + config::weight(&self.weights, rule) * factor)
    }

    fn tell(&self, host: &Host, hits: &Hits, total: f64) {
        let required = self.config.required;
        let is_spam = total >= required;
        if self.config.state_facts {
            self.counted(hits).for_each(|(rule, weight)| host.scores().add(rule.name(), weight, None));
        }
        let message = host.message();
        let word = if is_spam { "Yes" } else { "No" };
        let tests = tests(self.counted(hits).map(|(rule, _)| rule));
        message.add_header("X-Spam-Status", &format!("{word}, score={total:.1} required={required:.1} {tests}"));
        message.add_header("X-Spam-Score", &format!("{total:.1} / {required:.1}"));
        if total >= 1.0 {
            message.add_header("X-Spam-Level", &"*".repeat((total as usize).min(LEVEL_MAX)));
        }
        if is_spam {
            message.add_header("X-Spam-Flag", "YES");
        }
        host.env().metric_add(if is_spam { "spam" } else { "ham" }, 1.0);
    }

    /// What was hit and weighs anything, with its weight in this message.
    fn counted<'a>(&'a self, hits: &'a Hits) -> impl Iterator<Item = (Rule, f64)> + 'a {
        let weighed = |(rule, factor)| (rule, config::weight(&self.weights, rule) * factor);
        hits.iter().map(weighed).filter(|(_, weight)| *weight != 0.0)
    }

    fn action(&self, total: f64) -> Action {
        let reaches = |limit: Option<f64>| limit.is_some_and(|limit| total >= limit);
        if reaches(self.config.refuse_at) {
            return Action::reject(550, (5, 7, 1), format!("Message looks like spam (score {total:.1})"));
        }
        if reaches(self.config.hold_at) {
            return Action::Quarantine(format!("spam score {total:.1}"));
        }
        Action::Next
    }

    /// What the message would be told, for an operator: JSON.
    fn score_text(&mut self, host: &Host) -> String {
        let headers = Headers::parse(&block(host));
        let hits = self.hits(host, &headers);
        let total = self.own_score(&hits);
        let rules: Vec<String> = self
            .counted(&hits)
            .map(|(rule, weight)| format!("{{\"rule\":\"{}\",\"weight\":{weight:.2}}}", rule.name()))
            .collect();
        let required = self.config.required;
        format!(
            "{{\"score\":{total:.2},\"required\":{required:.2},\"spam\":{},\"rules\":[{}]}}",
            total >= required,
            rules.join(",")
        )
    }

    /// What was learned: JSON.
    fn stats_text(&mut self, host: &Host) -> String {
        let min = self.config.learned_min;
        let domains: Vec<String> = std::iter::once(String::new()).chain(self.config.per_domain.clone()).collect();
        let rows = domains.iter().map(|domain| {
            let (spam, ham) = self.memory.learned(host, &domain.to_ascii_lowercase());
            format!("{{\"domain\":\"{domain}\",\"spam\":{spam},\"ham\":{ham},\"in_use\":{}}}", spam.min(ham) >= min)
        });
        let rows: Vec<String> = rows.collect();
        format!("{{\"learned_min\":{min},\"classifiers\":[{}]}}", rows.join(","))
    }
}

/// The header block, as much of it as is looked at.
fn block(host: &Host) -> Vec<u8> {
    let mut block = host.message().raw_headers();
    block.truncate(HEADERS_MAX);
    block
}

/// Fields that only we put in.
fn remove_forged(host: &Host, headers: &Headers) {
    for (name, lower) in OURS {
        if headers.has(lower) {
            host.message().remove_header(name, None);
        }
    }
}

/// Text that a reader is shown; attached texts are not.
fn is_read(part: &Part) -> bool {
    part.mime_type.starts_with("text/") && part.disposition.as_deref() != Some("attachment")
}

/// `tests=A,B,…`, folded before a line grows too long.
fn tests(rules: impl Iterator<Item = Rule>) -> String {
    const LINE_MAX: usize = 72;
    let mut out = String::from("tests=");
    let mut column = 60;
    for (at, rule) in rules.enumerate() {
        if at > 0 {
            out.push(',');
        }
        if column + rule.name().len() > LINE_MAX {
            out.push_str("\r\n\t");
            column = 8;
        }
        out.push_str(rule.name());
        column += rule.name().len() + 1;
    }
    if out == "tests=" { "tests=none".into() } else { out }
}

waypost_sdk::export!(SpamScore: message, command);

#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod tests;
