//! The last step inside this host. LMTP is spoken by the same machine as SMTP, in `remote`.

use std::sync::Arc;

use waypost_types::{Enhanced, Reply};

use crate::courier::Shared;
use crate::desk::Errand;
use crate::held::Held;
use crate::options::MailboxForm;
use crate::verdict::{Met, Taken};

pub mod maildir;
pub mod mbox;
pub(crate) mod pipe;
pub mod post;

/// Puts the message into a mailbox, once for each recipient that leads there, and hands the news in.
pub(crate) async fn deliver(shared: &Arc<Shared>, errand: &Errand, mailbox: &str) {
    let held = &errand.held;
    let replies = {
        let (shared, held, mailbox, recipients) =
            (shared.clone(), held.clone(), mailbox.to_string(), errand.recipients.clone());
        let work = move || recipients.iter().map(|index| deliver_one(&shared, &held, &mailbox, *index)).collect();
        tokio::task::spawn_blocking(work).await
    };
    let replies: Vec<Reply> = replies.unwrap_or_else(|error| {
        let reply = Reply::new(451, Enhanced(4, 3, 0), format!("the local delivery agent failed: {error}"));
        vec![reply; errand.recipients.len()]
    });
    let bench = shared.bench(held.entry());
    let met = Met { target: mailbox, security: "local" };
    let judged = errand.recipients.iter().zip(replies);
    let news = judged.map(|(index, reply)| bench.judge(*index, reply, Taken::Delivered, met, false)).collect();
    shared.hand_in(held, news, "local");
}

/// Blocking.
fn deliver_one(shared: &Shared, held: &Held, mailbox: &str, index: u32) -> Reply {
    let entry = held.entry();
    let letter = maildir::Letter {
        sender: &entry.sender,
        recipient: &entry.recipients[index as usize].recipient.address,
        message: held.loaded(),
    };
    let options = &shared.options;
    let delivered = match options.mailbox_form {
        MailboxForm::Maildir => maildir::deliver(&options.mail_dir, mailbox, &options.name, letter),
        MailboxForm::Mbox => mbox::deliver(&options.mail_dir, mailbox, letter),
    };
    match delivered {
        Ok(_) => Reply::new(250, Enhanced(2, 0, 0), "delivered to the mailbox"),
        Err(reply) => reply,
    }
}
