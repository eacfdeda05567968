//! Bounces and complaints that come in: read when the message is whole, told when it is durable, believed when they are proven.
//!
//! Anybody can write a bounce. One counts as proven if it has come to an address that only we could have made (VERP), or is about a message that is remembered
//! as sent to that recipient; only then may it put the recipient on the suppression list.

use waypost_queue::Entry;
use waypost_queue::bounce::{self, About, Report, What, table::COMPLAINT};
use waypost_types::{Address, Event, MessageId, ReversePath, SessionId, Timestamp};

use super::admit::Candidate;
use crate::pipeline::Pipeline;

/// A report, and the recipient that its own address names.
pub(super) struct Told {
    report: Report,
    verp: Option<Address>,
}

impl Pipeline {
    /// What a message tells us of mail of ours, if that is what it does.
    pub(super) fn told(&self, candidate: &Candidate) -> Option<Told> {
        let bounces = &self.shared.options.bounces;
        bounces.table.as_ref()?;
        let null = candidate.envelope.sender == ReversePath::Null;
        let report = bounce::read(&candidate.message, null, &self.shared.options.hostname)?;
        let verp = bounces.verp.as_ref();
        let back = |address: &Address| verp.and_then(|verp| verp.back(address)).map(|(_, recipient)| recipient);
        let by_envelope = candidate.envelope.recipients.iter().find_map(|one| back(&one.address));
        // A complaint goes to whoever has asked for them; the address stands in what it returns.
        let by_original = || back(&Address::parse(report.sender.as_deref()?).ok()?);
        Some(Told { verp: by_envelope.or_else(by_original), report })
    }

    /// Tells it, and does what follows.
    pub(super) fn publish(&self, told: Told, session: SessionId, id: MessageId, now: Timestamp) {
        let Told { mut report, verp } = told;
        let bounces = &self.shared.options.bounces;
        let Some(table) = &bounces.table else { return };
        if let Some(recipient) = &verp {
            // The address knows better than the report, which may name somebody behind a forwarder.
            report.about.truncate(1);
            report.about.iter_mut().for_each(|about| about.recipient = Some(recipient.to_string().into()));
        }
        let (message_id, envelope_id) = (report.message_id.as_deref(), report.envelope_id.as_deref());
        let known = bounces.sent.as_ref().and_then(|sent| sent.find(message_id, envelope_id));
        let original = known.or(report.queue_id);
        for about in &report.about {
            let went = |recipient: &str| {
                let (Some(sent), Some(original)) = (&bounces.sent, original) else { return false };
                sent.went_to(original, recipient)
            };
            let proven = verp.is_some() || about.recipient.as_deref().is_some_and(went);
            let category = match about.what {
                What::Complaint => Some(COMPLAINT),
                What::Failed | What::Delayed => Some(&*table.of(&about.diagnosis, about.status).name),
                What::Delivered | What::Feedback => None,
            };
            let suppressed = proven && self.suppress(about, category, now);
            self.shared.services.observer.observe(Event::Bounced {
                session,
                id,
                form: report.form,
                what: about.what.word(),
                recipient: about.recipient.as_deref(),
                status: about.status,
                category,
                about: original,
                message_id,
                proven,
                suppressed,
                diagnosis: &about.diagnosis,
            });
        }
    }

    fn suppress(&self, about: &About, category: Option<&str>, now: Timestamp) -> bool {
        let (Some(list), Some(category), Some(recipient)) =
            (&self.shared.options.bounces.suppression, category, &about.recipient)
        else {
            return false;
        };
        if !matches!(about.what, What::Failed | What::Complaint) || !list.is_fed_by(category) {
            return false;
        }
        list.add(recipient, category, &about.diagnosis, now).unwrap_or_else(|error| {
            self.shared.notice("warn", &format!("{recipient} cannot be put on the suppression list: {error:?}"));
            false
        })
    }

    /// Remembers what was taken, for the bounces that it may cause.
    pub(super) fn remember(&self, entry: &Entry, message_id: Option<&str>) {
        let Some(sent) = self.shared.options.bounces.sent.as_ref().filter(|_| entry.sender != ReversePath::Null) else {
            return;
        };
        let recipients = entry.recipients.iter().map(|delivery| &delivery.recipient.address);
        if let Err(error) = sent.note(entry.id, message_id, entry.parameters.envelope_id.as_deref(), recipients) {
            self.shared.notice("warn", &format!("{}: bounces of it will not be proven: {error:?}", entry.id));
        }
    }
}
