//! What the world does to a mail server's disk: the power goes, writes fail, there is no room. Real file systems, real errors.
//!
//! They need root, for mounting and for strace; a test that cannot do its work here says so aloud and proves nothing.

mod broken_disk;
mod disk;
mod full_disk;
mod power;

use waypost_tests::{Dialog, Sink, Waypost};

/// Settings of a site that relays everything foreign to the sink.
fn settings(sink: &Sink, more: &[&str]) -> Vec<String> {
    let mut all = vec![
        "listener.mx.preset=relay".to_string(),
        "relay.networks=[\"127.0.0.0/8\"]".to_string(),
        "queue.retry-first=1s".to_string(),
        "queue.retry-max=2s".to_string(),
        format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port),
    ];
    all.extend(more.iter().map(|set| set.to_string()));
    all
}

fn borrowed(sets: &[String]) -> Vec<&str> {
    sets.iter().map(String::as_str).collect()
}

/// One message; the code of the reply to its final dot, or of the first refusal before it.
fn offer(dialog: &mut Dialog, recipient: &str, number: u32, octets: usize) -> u16 {
    for (line, good) in [("MAIL FROM:<a@client.example>", 250), (&format!("RCPT TO:<{recipient}>"), 250), ("DATA", 354)]
    {
        dialog.send(format!("{line}\r\n").as_bytes());
        let code = dialog.reply().map_or(0, |(code, _)| code);
        if code != good {
            dialog.say("RSET", 250);
            return code;
        }
    }
    let filler = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(octets / 64);
    dialog.send(format!("Subject: ledger {number}.\r\n\r\n{filler}.\r\n").as_bytes());
    dialog.reply().map_or(0, |(code, _)| code)
}

/// The number that [`offer`] gave a message.
fn number(message: &str) -> Option<u32> {
    message.split("Subject: ledger ").nth(1)?.split('.').next()?.parse().ok()
}

/// Messages in the queue, as `waypost queue list` counts them.
fn queued(server: &Waypost) -> usize {
    let (status, text) = server.command(&["queue", "list", "--json"]);
    assert!(status.success(), "{text}");
    text.lines().filter(|line| line.starts_with('{')).count()
}
