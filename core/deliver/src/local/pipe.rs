//! Letters handed to a program: its standard input gets the message, its environment the envelope, its exit status says what became of it (sysexits.h).
//!
//! The program is not run here: this process can run nothing (`daemon/privileges`). A helper that was started beside it, before any mail came in, knows the
//! configured commands and no others; it is asked over a unix socket, [`Request`] and answer a line of JSON each. Nothing of an address ever becomes a part of a command.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use waypost_queue::schedule::Feedback;
use waypost_types::{Address, Enhanced, Message, Reply, ReversePath};

use crate::courier::Shared;
use crate::desk::Errand;
use crate::verdict::{Met, Taken};

/// Octets of an answer.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;
/// Octets of a program's words that are repeated.
const SAID_BYTES_MAX: usize = 300;
/// The helper ends programs that take too long; if it does not answer either, it is given up after this.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Runs the program once for each recipient and hands the news in.
pub(crate) async fn deliver(shared: &Arc<Shared>, errand: &Errand, name: &str) -> Feedback {
    let held = &errand.held;
    let entry = held.entry();
    let bench = shared.bench(entry);
    let mut feedback = Feedback::Success;
    let mut news = Vec::with_capacity(errand.recipients.len());
    let (target, id) = (format!("pipe:{name}"), entry.id.to_string());
    for index in &errand.recipients {
        let recipient = &entry.recipients[*index as usize].recipient.address;
        let reply = match &shared.options.pipes {
            Some(socket) => {
                let asked = ask(socket, name, &id, &entry.sender, recipient, held.loaded());
                match tokio::time::timeout(PATIENCE, asked).await {
                    Ok(Ok(answer)) => reply(&answer),
                    Ok(Err(error)) => {
                        feedback = Feedback::Failure;
                        Reply::new(451, Enhanced(4, 3, 0), format!("the helper that runs programs: {error}"))
                    }
                    Err(_) => Reply::new(451, Enhanced(4, 3, 0), "the helper that runs programs does not answer"),
                }
            }
            None => Reply::new(451, Enhanced(4, 3, 5), "no programs are run: restart the server with [pipe.*]"),
        };
        news.push(bench.judge(*index, reply, Taken::Delivered, Met { target: &target, security: "local" }, false));
    }
    shared.hand_in(held, news, "local");
    feedback
}

async fn ask(
    socket: &Path,
    name: &str,
    id: &str,
    sender: &ReversePath,
    recipient: &Address,
    message: &Message,
) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket).await?;
    let head = json!({
        "name": name, "id": id, "sender": sender.to_string(), "recipient": recipient.to_string(), "octets": message.len(),
    });
    stream.write_all(format!("{head}\n").as_bytes()).await?;
    let sent = async {
        for segment in message.segments() {
            stream.write_all(segment).await?;
        }
        stream.flush().await
    };
    // A program that does not read to the end may have said why.
    let _ = sent.await;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line).await?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

/// What an exit status means.
fn reply(answer: &Value) -> Reply {
    let said = answer["said"].as_str().unwrap_or_default().trim();
    let said = &said[..said.floor_char_boundary(SAID_BYTES_MAX)];
    if let Some(error) = answer["error"].as_str() {
        return Reply::new(451, Enhanced(4, 3, 0), format!("{error} {said}"));
    }
    let Some(status) = answer["status"].as_i64() else {
        return Reply::new(451, Enhanced(4, 3, 0), "the program ended without a status");
    };
    let (code, enhanced, words) = match status {
        0 => (250, Enhanced(2, 0, 0), "taken by the program"),
        65 => (554, Enhanced(5, 6, 0), "data format error"),
        67 => (550, Enhanced(5, 1, 1), "user unknown"),
        68 => (550, Enhanced(5, 1, 2), "host name unknown"),
        69 => (554, Enhanced(5, 3, 0), "service unavailable"),
        70 | 72 => (554, Enhanced(5, 3, 0), "internal error of the program"),
        73 => (554, Enhanced(5, 2, 0), "cannot create the output"),
        76 => (554, Enhanced(5, 5, 0), "protocol error"),
        77 => (554, Enhanced(5, 7, 0), "permission denied"),
        71 | 74 | 75 => (451, Enhanced(4, 3, 0), "try again later"),
        // Wrong use, configuration, not found, not executable: the operator's to mend, and mail does not pay for it.
        64 | 78 | 126 | 127 => (451, Enhanced(4, 3, 5), "the program cannot be used as it is set up"),
        _ => (554, Enhanced(5, 3, 0), "the program failed"),
    };
    let text = match (status, said.is_empty()) {
        (0, true) => words.to_string(),
        (_, true) => format!("{words} (status {status})"),
        (_, false) => format!("{words} (status {status}): {said}"),
    };
    Reply::new(code, enhanced, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_means_something() {
        let of = |status: i64| {
            let reply = reply(&json!({ "status": status, "said": "" }));
            format!("{} {}", reply.code, reply.status())
        };
        for (status, wanted) in [
            (0, "250 2.0.0"),
            (65, "554 5.6.0"),
            (67, "550 5.1.1"),
            (75, "451 4.3.0"),
            (77, "554 5.7.0"),
            (78, "451 4.3.5"),
            (127, "451 4.3.5"),
            (1, "554 5.3.0"),
        ] {
            assert_eq!(of(status), wanted, "{status}");
        }
        let late = reply(&json!({ "error": "ended after 5 s", "said": "half\nway" }));
        assert!(late.is_transient() && late.text.contains("ended after 5 s half"), "{late}");
        assert_eq!(reply(&json!({})).code, 451);
    }
}
