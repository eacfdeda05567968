//! Scores messages by rules, and says so in headers that any mail program can file by.
//!
//! At stage `message` it reads the header block and the first 256 KiB of decoded text, applies the rules of [`rules`], adds what
//! other plugins stated, and puts in `X-Spam-Score`, `X-Spam-Status` and, for spam, `X-Spam-Flag`. It never refuses for what a
//! message says unless told to by `refuse-at`. Forged `X-Spam-*` fields are taken out.

pub mod body_rules;
pub mod config;
pub mod date;
pub mod encoded;
pub mod header_rules;
pub mod html;
pub mod letter;
pub mod link;
pub mod origin_rules;
pub mod phrases;
pub mod rules;
pub mod text;

use body_rules::Body;
use config::Config;
use letter::Headers;
use phrases::Phrases;
use rules::{Hits, Rule};
use waypost_sdk::facts::WHITELISTED;
use waypost_sdk::{Action, BodyNeed, Host, Outcome, Plugin, Registration};

/// Octets of the header block that are looked at.
const HEADERS_MAX: usize = 64 << 10;
/// Fields that only we may put in.
const OURS: [&str; 4] = ["X-Spam-Score", "X-Spam-Status", "X-Spam-Flag", "X-Spam-Level"];

/// The plugin.
pub struct SpamScore {
    config: Config,
    weights: Vec<f64>,
    phrases: Phrases,
}

impl Plugin for SpamScore {
    fn init(host: &Host) -> Result<(Self, Registration), String> {
        let config: Config = waypost_sdk::settings(host)?;
        config.check()?;
        let weights = config.all_weights()?;
        let registration = Registration::new("spam-score", env!("CARGO_PKG_VERSION")).reading(BodyNeed::FULL);
        let registration = if config.score_own { registration } else { registration.only_inbound() };
        Ok((SpamScore { config, weights, phrases: Phrases::new() }, registration))
    }

    fn message(&mut self, host: &Host) -> Outcome {
        let message = host.message();
        let mut block = message.raw_headers();
        block.truncate(HEADERS_MAX);
        let headers = Headers::parse(&block);
        for name in OURS {
            if headers.has(&name.to_ascii_lowercase()) {
                message.remove_header(name, None);
            }
        }
        if (!self.config.score_own && host.session().is_own()) || host.scores().has(WHITELISTED) {
            return Ok(Action::Next);
        }
        let hits = self.hits(host, &headers);
        let total = self.own_score(&hits) + host.scores().total();
        self.tell(host, &hits, total);
        Ok(self.action(total))
    }
}

impl SpamScore {
    /// Applies all rules.
    pub fn hits(&self, host: &Host, headers: &Headers) -> Hits {
        let message = host.message();
        let mut hits = Hits::default();
        let recipients: Vec<String> =
            host.envelope().recipients().into_iter().take(10).map(|recipient| recipient.address).collect();
        header_rules::apply(headers, (host.env().now_ms() / 1000) as i64, &recipients, &mut hits);
        let parts = message.parts();
        let mut body = Body::default();
        let mut left = self.config.read_bytes_max;
        for part in parts.iter().filter(|part| is_read(part)) {
            let content = message.read_part(&part.path, 0, left);
            body.add(&part.mime_type, &content);
            left = left.saturating_sub(content.len() as u32);
            if left == 0 {
                break;
            }
        }
        body_rules::apply(headers, &parts, &body, &self.phrases, &mut hits);
        origin_rules::apply(host, headers, &mut hits);
        hits
    }

    /// The sum of the weights of what was hit.
    pub fn own_score(&self, hits: &Hits) -> f64 {
        // From 0.0 on: an empty sum of floats is −0.0.
        hits.iter().fold(0.0, |sum, (rule, factor)| sum + config::weight(&self.weights, rule) * factor)
    }

    fn tell(&self, host: &Host, hits: &Hits, total: f64) {
        let required = self.config.required;
        let is_spam = total >= required;
        let counted = || hits.iter().filter(|(rule, _)| config::weight(&self.weights, *rule) != 0.0);
        if self.config.state_facts {
            counted().for_each(|(rule, factor)| {
                host.scores().add(rule.name(), config::weight(&self.weights, rule) * factor, None)
            });
        }
        let message = host.message();
        let word = if is_spam { "Yes" } else { "No" };
        message.add_header(
            "X-Spam-Status",
            &format!("{word}, score={total:.1} required={required:.1} {}", tests(counted().map(|(rule, _)| rule))),
        );
        message.add_header("X-Spam-Score", &format!("{total:.1} / {required:.1}"));
        if is_spam {
            message.add_header("X-Spam-Flag", "YES");
        }
        host.env().metric_add(if is_spam { "spam" } else { "ham" }, 1.0);
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
}

/// Text that a reader is shown; attached texts are not.
fn is_read(part: &waypost_sdk::types::Part) -> bool {
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

waypost_sdk::export!(SpamScore: message);

#[cfg(test)]
mod tests;
