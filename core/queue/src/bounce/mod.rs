//! What other systems tell us about mail of ours: bounces (RFC 3464, and the forms from before it) and complaints (ARF, RFC 5965), read and put into
//! words of one kind.
//!
//! [`read`] recognises a report and gives a [`Report`]; `None` for everything else, which is nearly all mail and costs a look at two header fields.
//! Promises: bounded in time and memory whatever it is given, at most [`RECIPIENTS_MAX`] recipients; it believes nothing: who was really
//! written to is for the caller to find out. What a reply or a diagnosis means says [`table`].

mod mime;
pub mod table;
mod words;

use bytes::Bytes;
use waypost_types::{Enhanced, Message, MessageId, header};

pub use table::{Category, Patterns, Table};

use mime::Part;

/// Octets of a message that are looked at: status and header of what is returned stand in front.
const LOOK_BYTES: usize = 256 * 1024;
/// Recipients of one report.
pub const RECIPIENTS_MAX: usize = 100;
/// Octets of a diagnosis that are kept.
const DIAGNOSIS_BYTES_MAX: usize = 512;

/// What happened to a recipient, as the report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It will not be delivered.
    Failed,
    /// It is late, and tried further.
    Delayed,
    /// It has arrived, or was passed on.
    Delivered,
    /// Its reader does not want it (ARF: abuse, fraud, virus, opt-out).
    Complaint,
    /// Any other feedback: not-spam, auth-failure and what is yet to be invented.
    Feedback,
}

impl What {
    /// One word for logs: `failed`, `delayed`, `delivered`, `complaint`, `feedback`.
    pub fn word(self) -> &'static str {
        match self {
            What::Failed => "failed",
            What::Delayed => "delayed",
            What::Delivered => "delivered",
            What::Complaint => "complaint",
            What::Feedback => "feedback",
        }
    }
}

/// One recipient of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// As it was written to, if that is known: `Original-Recipient`, else `Final-Recipient`.
    pub recipient: Option<Box<str>>,
    /// What became of it.
    pub what: What,
    /// RFC 3463.
    pub status: Option<Enhanced>,
    /// What the last host said, on one line.
    pub diagnosis: Box<str>,
}

/// A report, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `dsn`, `arf`, or `words`: a form from before there were any.
    pub form: &'static str,
    /// At least one.
    pub about: Vec<About>,
    /// `Original-Envelope-Id`.
    pub envelope_id: Option<Box<str>>,
    /// The `Message-ID` of what was returned, in its brackets.
    pub message_id: Option<Box<str>>,
    /// Our own name for it, from the `Received` field that we put in front of what was returned.
    pub queue_id: Option<MessageId>,
    /// Who sent what was returned, as `Return-Path` or `Original-Mail-From` say.
    pub sender: Option<Box<str>>,
}

/// Reads a message that has come in. `null_sender`: its envelope sender is empty, as it is for all reports but complaints. `host` is our name, as it
/// stands in our `Received` fields.
pub fn read(message: &Message, null_sender: bool, host: &str) -> Option<Report> {
    let block = message.header_block();
    if !is_worth_a_look(&block, null_sender) {
        return None;
    }
    let whole = Bytes::from(message.read(0, LOOK_BYTES));
    let top = Part::new(&whole);
    let parts = top.parts();
    let (status, feedback) = (
        parts.iter().find(|part| part.is("message/delivery-status") || part.is("message/global-delivery-status")),
        parts.iter().find(|part| part.is("message/feedback-report")),
    );
    let mut report = match (feedback, status) {
        (Some(feedback), _) => complaint(&feedback.text()),
        (None, Some(status)) => delivery_status(&status.text()).or_else(|| words::read(&top, &parts)),
        (None, None) => words::read(&top, &parts),
    }?;
    const RETURNED: [&str; 4] = ["message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"];
    if let Some(returned) = parts.iter().find(|part| RETURNED.iter().any(|kind| part.is(kind))) {
        report.note_original(&returned.text(), host);
    } else if report.form == "words" {
        report.note_original(&words::returned(&top, &parts), host);
    }
    report.about.truncate(RECIPIENTS_MAX);
    Some(report)
}

/// Whether a header block is that of something that may be a report.
fn is_worth_a_look(block: &[u8], null_sender: bool) -> bool {
    let mut reports = false;
    for field in header::fields(block) {
        match field.name.len() {
            12 if field.is("Content-Type") => reports |= mime::contains(field.value, b"multipart/report"),
            19 if field.is("X-Failed-Recipients") => return true,
            7 if null_sender && field.is("Subject") => reports |= words::is_subject(field.value),
            4 if null_sender && field.is("From") => reports |= words::is_daemon(field.value),
            _ => {}
        }
    }
    reports
}

impl Report {
    /// What the header of the returned message says.
    fn note_original(&mut self, original: &[u8], host: &str) {
        for field in header::fields(original) {
            match field.name.len() {
                10 if field.is("Message-ID") && self.message_id.is_none() => {
                    self.message_id = Some(brief(&field.unfolded()));
                }
                8 if field.is("Received") && self.queue_id.is_none() => {
                    self.queue_id = queue_id(&field.unfolded(), host);
                }
                11 if field.is("Return-Path") && self.sender.is_none() => {
                    self.sender = address(&field.unfolded());
                }
                _ => {}
            }
        }
    }
}

/// Our id in a `Received` field of ours: `… by HOST with PROTOCOL id ID …`.
fn queue_id(received: &str, host: &str) -> Option<MessageId> {
    let mut words = received.split_ascii_whitespace();
    words.find(|word| *word == "by")?;
    if !words.next()?.eq_ignore_ascii_case(host) {
        return None;
    }
    words.find(|word| *word == "id")?;
    words.next()?.trim_end_matches(';').parse().ok()
}

/// RFC 3464 §2: groups of fields, the first about the message. Reporters that leave the blank line between groups away are read, too.
fn delivery_status(text: &[u8]) -> Option<Report> {
    let mut report = Report::of("dsn");
    for group in mime::groups(text) {
        let mut about = About { recipient: None, what: What::Failed, status: None, diagnosis: "".into() };
        let (mut action, mut original, mut last) = (None, None, None);
        for field in header::fields(group) {
            let value = field.unfolded();
            match () {
                () if field.is("Original-Envelope-Id") => report.envelope_id = Some(brief(&value)),
                () if field.is("Original-Recipient") => original = typed_address(&value),
                () if field.is("Final-Recipient") => last = typed_address(&value),
                () if field.is("Action") => action = Some(value.to_ascii_lowercase()),
                () if field.is("Status") => about.status = words::status(&value),
                () if field.is("Diagnostic-Code") => about.diagnosis = brief(untyped(&value)),
                () => {}
            }
        }
        about.recipient = original.or(last);
        if about.recipient.is_none() && action.is_none() {
            continue;
        }
        about.what = match action.as_deref().unwrap_or_default() {
            action if action.starts_with("fail") => What::Failed,
            action if action.starts_with("delay") => What::Delayed,
            action if ["deliver", "relay", "expand"].iter().any(|word| action.starts_with(word)) => What::Delivered,
            _ => of_status(about.status),
        };
        report.about.push(about);
    }
    (!report.about.is_empty()).then_some(report)
}

fn of_status(status: Option<Enhanced>) -> What {
    match status {
        Some(Enhanced(2, ..)) => What::Delivered,
        Some(Enhanced(4, ..)) => What::Delayed,
        _ => What::Failed,
    }
}

/// RFC 5965 §3.
fn complaint(text: &[u8]) -> Option<Report> {
    let mut report = Report::of("arf");
    let (mut kind, mut source) = (String::new(), String::new());
    let mut recipients = Vec::new();
    for field in header::fields(text) {
        let value = field.unfolded();
        match () {
            () if field.is("Feedback-Type") => kind = value.to_ascii_lowercase(),
            () if field.is("Original-Rcpt-To") => recipients.extend(address(&value)),
            () if field.is("Original-Mail-From") => report.sender = address(&value),
            () if field.is("Original-Envelope-Id") => report.envelope_id = Some(brief(&value)),
            () if field.is("User-Agent") => source = value,
            () => {}
        }
    }
    if kind.is_empty() {
        return None;
    }
    let what = match kind.as_str() {
        "abuse" | "fraud" | "virus" | "opt-out" => What::Complaint,
        _ => What::Feedback,
    };
    let diagnosis = brief(&format!("{kind} {source}"));
    let about = |recipient| About { recipient, what, status: None, diagnosis: diagnosis.clone() };
    report.about = recipients.into_iter().take(RECIPIENTS_MAX).map(|one| about(Some(one))).collect();
    if report.about.is_empty() {
        // Many take the complainer's address out (RFC 6590): who it was may still be told by what was returned.
        report.about.push(about(None));
    }
    Some(report)
}

impl Report {
    fn of(form: &'static str) -> Report {
        Report { form, about: Vec::new(), envelope_id: None, message_id: None, queue_id: None, sender: None }
    }
}

/// The address in `rfc822; user@example.org`, with or without its type and brackets.
fn typed_address(value: &str) -> Option<Box<str>> {
    address(untyped(value))
}

/// What stands behind `smtp;` or `rfc822;`.
fn untyped(value: &str) -> &str {
    match value.split_once(';') {
        Some((kind, rest)) if !kind.contains([' ', '@', '<']) => rest.trim(),
        _ => value.trim(),
    }
}

/// One address, without its brackets; `None` for what has no `@`.
fn address(value: &str) -> Option<Box<str>> {
    let text = match value.split_once('<') {
        Some((_, rest)) => rest.split_once('>').map_or(rest, |(inside, _)| inside),
        None => value,
    };
    let text = text.trim().trim_matches(['"', '\'']);
    let fits = text.contains('@') && text.len() <= 320 && !text.contains(char::is_control);
    fits.then(|| text.into())
}

/// On one line, without control characters, of bounded length.
fn brief(text: &str) -> Box<str> {
    let end = text.floor_char_boundary(DIAGNOSIS_BYTES_MAX);
    let clean: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.split_ascii_whitespace().collect::<Vec<_>>().join(" ").into()
}

#[cfg(test)]
mod tests;
