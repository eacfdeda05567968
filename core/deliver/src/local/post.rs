//! Letters handed to a program over HTTP: one POST for each recipient, the message as `message/rfc822`, the envelope in header fields.
//!
//! | answer | what becomes of the recipient |
//! |---|---|
//! | 2xx | delivered |
//! | 404, 410 | failed, 5.1.1: nobody there |
//! | 413 | failed, 5.3.4 |
//! | 400, 406, 415, 422, 451 | failed, 5.6.0: this message will never be taken |
//! | 401, 403, 405, 407, 3xx, other 4xx | delayed, 4.3.5: the configuration is wrong, and mail does not pay for it |
//! | 408, 425, 429, 5xx, no answer | delayed |
//!
//! `Idempotency-Key` is the same for every attempt at one recipient, so that an answer that was lost does not make two letters of one.

use std::sync::Arc;
use std::time::Duration;

use waypost_queue::schedule::Feedback;
use waypost_types::port::{Fetch, FetchRequest};
use waypost_types::{Enhanced, Reply};

use crate::courier::Shared;
use crate::desk::Errand;
use crate::held::Held;
use crate::verdict::{Met, Taken};

/// Where letters are posted.
#[derive(Clone, Debug)]
pub struct Post {
    /// `https://…` or `http://…`.
    pub url: String,
    /// Further header fields, such as `Authorization`.
    pub headers: Vec<(String, String)>,
    /// How long one exchange may take.
    pub timeout: Duration,
}

/// Posts the message once for each recipient and hands the news in.
pub(crate) async fn deliver(shared: &Arc<Shared>, errand: &Errand, name: &str) -> Feedback {
    let held = &errand.held;
    let bench = shared.bench(held.entry());
    let mut feedback = Feedback::Success;
    let mut news = Vec::with_capacity(errand.recipients.len());
    let place = shared.options.posts.get(name).zip(shared.options.fetch.as_deref());
    let url = place.map_or(name, |(post, _)| post.url.as_str());
    let security = if url.starts_with("https:") { "https" } else { "http" };
    for index in &errand.recipients {
        let reply = match place {
            Some((post, fetch)) => deliver_one(post, fetch, held, *index, &mut feedback).await,
            None => Reply::new(451, Enhanced(4, 3, 5), format!("there is no [post.{name}] any more")),
        };
        news.push(bench.judge(*index, reply, Taken::Delivered, Met { target: url, security }, false));
    }
    shared.hand_in(held, news, security);
    feedback
}

async fn deliver_one(post: &Post, fetch: &dyn Fetch, held: &Held, index: u32, feedback: &mut Feedback) -> Reply {
    let entry = held.entry();
    let field = |name: &str, value: String| (name.to_string(), value);
    let mut headers = vec![
        field("Content-Type", "message/rfc822".into()),
        field("Idempotency-Key", format!("\"{}-{index}\"", entry.id)),
        field("X-Waypost-Id", entry.id.to_string()),
        field("X-Waypost-Sender", ascii(&entry.sender.to_string())),
        field("X-Waypost-Recipient", ascii(&entry.recipients[index as usize].recipient.address.to_string())),
    ];
    headers.extend(post.headers.iter().cloned());
    let request = FetchRequest {
        method: "POST".into(),
        url: post.url.clone(),
        headers,
        body: held.loaded().contiguous().to_vec(),
        timeout: post.timeout,
    };
    match fetch.fetch(&request).await {
        Ok(answer) => reply(answer.status, &String::from_utf8_lossy(&answer.body)),
        Err(error) => {
            *feedback = Feedback::Failure;
            Reply::new(451, Enhanced(4, 4, 1), error)
        }
    }
}

/// A header field has no room for more (RFC 9110 §5.5): percent-encoded.
fn ascii(text: &str) -> String {
    let octet = |byte: u8| match byte {
        b'!'..=b'~' if byte != b'%' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(octet).collect()
}

fn reply(status: u16, body: &str) -> Reply {
    let first = body.lines().next().unwrap_or_default().trim();
    let said = if first.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {first}") };
    let (code, enhanced) = match status {
        200..=299 => (250, Enhanced(2, 0, 0)),
        404 | 410 => (550, Enhanced(5, 1, 1)),
        413 => (552, Enhanced(5, 3, 4)),
        400 | 406 | 415 | 422 | 451 => (554, Enhanced(5, 6, 0)),
        408 | 425 | 429 => (451, Enhanced(4, 3, 2)),
        300..=499 => (451, Enhanced(4, 3, 5)),
        _ => (451, Enhanced(4, 3, 0)),
    };
    Reply::new(code, enhanced, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_means_something() {
        let of = |status| {
            let reply = reply(status, "why\nmore");
            format!("{} {}", reply.code, reply.status())
        };
        for (status, wanted) in [
            (200, "250 2.0.0"),
            (204, "250 2.0.0"),
            (301, "451 4.3.5"),
            (400, "554 5.6.0"),
            (401, "451 4.3.5"),
            (404, "550 5.1.1"),
            (413, "552 5.3.4"),
            (422, "554 5.6.0"),
            (429, "451 4.3.2"),
            (500, "451 4.3.0"),
            (503, "451 4.3.0"),
            (999, "451 4.3.0"),
        ] {
            assert_eq!(of(status), wanted, "{status}");
        }
        assert_eq!(reply(503, "").text, "HTTP 503");
    }

    #[test]
    fn envelopes_fit_into_fields() {
        assert_eq!(ascii("jo%e\r\n@b.test"), "jo%25e%0D%0A@b.test");
        assert_eq!(ascii("é@b.test"), "%C3%A9@b.test");
    }
}
