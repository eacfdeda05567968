//! The spam classifier: taught from the command line, running and stopped, and by mail; what it knows stands in the header.

use std::fmt::Write;

use waypost_tests::{Dialog, Waypost};

/// A site whose clients on loopback are strangers, with a classifier that fifteen messages of each kind are enough for.
const SETS: [&str; 2] = ["relay.networks=[]", "plugin.spam-score.config={learned-min=15}"];

fn letter(spam: bool, number: usize) -> String {
    let words: [&str; 8] = if spam {
        ["cheap", "pills", "casino", "bonus", "winner", "replica", "loans", "jackpot"]
    } else {
        ["compiler", "patch", "kernel", "meeting", "minutes", "branch", "thesis", "garden"]
    };
    let name: String = format!("1{number}").bytes().map(|digit| char::from(digit - b'0' + b'k')).collect();
    let mut text = format!(
        "From: Ann <ann@client.example>\r\nTo: alice@waypost.test\r\nSubject: {} {name}\r\nMessage-ID: <a@client.example>\r\n\r\n",
        words[number % 8]
    );
    for at in 0..40 {
        let _ = write!(text, "{} ", words[(at * 3 + number + at / 5) % 8]);
    }
    text + "\r\n"
}

/// A folder of ham and an mbox of spam.
fn lessons(server: &Waypost) -> (String, String) {
    let folder = server.data().join("lessons");
    std::fs::create_dir_all(folder.join("cur")).expect("made");
    let mut mbox = String::new();
    for number in 0..20 {
        std::fs::write(folder.join("cur").join(format!("{number}:2,S")), letter(false, number)).expect("written");
        let _ = write!(
            mbox,
            "From ann@client.example Thu Aug 22 12:36:23 2002\n{}\n",
            letter(true, number).replace("\r\n", "\n")
        );
    }
    let file = server.data().join("spam.mbox");
    std::fs::write(&file, mbox).expect("written");
    (folder.to_string_lossy().into_owned(), file.to_string_lossy().into_owned())
}

fn told(server: &Waypost, arguments: &[&str], part: &str) {
    let (status, text) = server.command(arguments);
    assert!(status.success() && text.contains(part), "{arguments:?}: {text}");
}

#[test]
fn what_was_learned_in_a_running_server_judges_the_next_message_and_survives_it() {
    let mut server = Waypost::start(&SETS);
    let (ham, spam) = lessons(&server);
    told(&server, &["spam", "learn", "--ham", &ham], "20 messages learned");
    told(&server, &["spam", "learn", "--spam", &spam], "20 messages learned");
    told(&server, &["spam", "learn", "--spam", &spam], "0 messages learned, 0 moved from the other kind, 20 known");
    told(&server, &["spam", "stats"], "everybody: 20 spam, 20 ham learned; in use");
    let mut dialog = Dialog::greeted(server.mx);
    dialog.deliver("ann@client.example", &["alice@waypost.test"], &letter(true, 77));
    dialog.deliver("ann@client.example", &["bob@waypost.test"], &letter(false, 77));
    let tests = |mail: &[String]| mail[0].split("X-Spam-Status:").nth(1).expect("scored").to_string();
    assert!(tests(&server.wait_for_mail("alice", 1)).contains("BAYES_SPAM"));
    assert!(tests(&server.wait_for_mail("bob", 1)).contains("BAYES_HAM"));
    server.stop();
    told(&server, &["spam", "stats", "--json"], "\"spam\":20,\"ham\":20");
    told(&server, &["spam", "learn", "--ham", &spam], "0 messages learned, 20 moved");
    told(&server, &["spam", "forget", &ham], "20 messages forgotten");
    told(&server, &["spam", "stats"], "everybody: 0 spam, 20 ham learned; not in use yet");
    told(&server, &["spam", "forget", "--all"], "everything is forgotten");
    told(&server, &["spam", "score", &spam], "of 5.0");
    server.run();
    told(&server, &["spam", "stats"], "everybody: 0 spam, 0 ham");
}

#[test]
fn mistakes_are_told_with_their_remedy() {
    let server = Waypost::start(&["plugin.spam-score.grants=[]"]);
    let (ham, _) = lessons(&server);
    let (status, text) = server.command(&["spam", "learn", "--ham", &ham]);
    assert!(!status.success() && text.contains("grant `kv`"), "{text}");
    let (status, text) = server.command(&["spam", "score", "/nowhere/at/all"]);
    assert!(!status.success() && text.contains("/nowhere/at/all"), "{text}");
    let (status, text) = server.command(&["spam", "learn", &ham]);
    assert!(!status.success() && text.contains("--spam"), "{text}");
}
