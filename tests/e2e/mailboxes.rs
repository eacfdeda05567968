//! The last step inside: mbox files, programs behind HTTP, and programs on this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use waypost_tests::{Dialog, Waypost, tool, wait_for};

const BODY: &str = "From: joe@far.example\r\nTo: alice@waypost.test\r\nSubject: in\r\n\r\nFrom here\r\nHello\r\n";

#[test]
fn an_mbox_is_read_by_others_as_it_was_meant() {
    let server = Waypost::start(&["users.format=mbox"]);
    for _ in 0..3 {
        Dialog::greeted(server.mx).deliver("joe@far.example", &["alice@waypost.test"], BODY);
    }
    let path = server.data().join("mail/alice");
    wait_for("three letters", Duration::from_secs(20), || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.matches("Subject: in").count() == 3).then_some(())
    });
    let script = "import mailbox, sys\nbox = mailbox.mbox(sys.argv[1])\nbox.lock()\nprint(len(box), [m['Subject'] for m in box], box[0].get_payload().count('>From here'), box[0]['Return-Path'])\nbox.unlock()";
    let told = tool::python(script, &[&path.to_string_lossy()]);
    assert_eq!(told.trim(), "3 ['in', 'in', 'in'] 1 <joe@far.example>");
}

/// A request: its head in lower case, and its body.
type Request = (String, Vec<u8>);

/// A program behind HTTP that answers with these statuses in turn, then with the last one.
fn program(statuses: &'static [&'static str]) -> (u16, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let theirs = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let (mut head, mut line) = (String::new(), String::new());
            while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
                head.push_str(&line);
                line.clear();
            }
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_string))
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0);
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body");
            let mut seen = theirs.lock().expect("no panic");
            let status = statuses[seen.len().min(statuses.len() - 1)];
            seen.push((head, body));
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        }
    });
    (port, seen)
}

#[test]
fn a_program_behind_http_gets_the_message_once_under_one_key() {
    let (port, seen) = program(&["503 Later", "200 OK", "404 Gone"]);
    let folder = tempfile::TempDir::new().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").expect("written");
    let url = format!("post.app.url=\"http://127.0.0.1:{port}/in?x=1\"");
    let token = format!("post.app.token-file=\"{}\"", token.display());
    let sets = [
        "listener.mx.preset=relay",
        "relay.networks=[\"127.0.0.0/8\"]",
        "queue.retry-first=1s",
        "transport.\"app.example\"=\"post:app\"",
        &url,
        &token,
    ];
    let server = Waypost::start(&sets);
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &["in@app.example"], BODY);
    wait_for("the second attempt", Duration::from_secs(20), || server.events("removed").pop());
    let requests = seen.lock().expect("no panic").clone();
    assert_eq!(requests.len(), 2);
    let field = |at: usize, name: &str| {
        let lines = requests[at].0.lines().map(str::to_string);
        lines
            .filter_map(|line| line.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_string())))
            .find_map(|(n, v)| (n == name).then_some(v))
            .unwrap_or_default()
    };
    assert!(requests[0].0.starts_with("POST /in?x=1 HTTP/1.1"), "{}", requests[0].0);
    assert_eq!(field(0, "idempotency-key"), field(1, "idempotency-key"));
    assert_eq!(field(0, "content-type"), "message/rfc822");
    assert_eq!(field(0, "x-waypost-recipient"), "in@app.example");
    assert_eq!(field(0, "authorization"), "Bearer secret");
    let body = String::from_utf8_lossy(&requests[1].1).into_owned();
    assert!(body.starts_with("Received: ") && body.ends_with("\r\nFrom here\r\nHello\r\n"), "{body}");
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &["gone@app.example"], BODY);
    let report = server.wait_for_mail("alice", 1).remove(0);
    assert!(report.contains("Status: 5.1.1") && report.contains("HTTP 404"), "{report}");
}

fn script(folder: &std::path::Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    path.display().to_string()
}

#[test]
fn a_program_gets_the_message_under_its_own_user_and_the_server_still_runs_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::TempDir::new().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("ours");
    let out = folder.path().join("out");
    let good = script(
        folder.path(),
        "good",
        &format!(
            "#!/bin/sh\nwhile IFS= read -r line; do echo \"$line\"; done > {0}.new\necho \"$SENDER $RECIPIENT $1\" >> {0}.new\n/bin/mv {0}.new {0}\n",
            out.display()
        ),
    );
    let gone = script(folder.path(), "gone", "#!/bin/sh\necho \"nobody called $RECIPIENT\" >&2\nexit 67\n");
    let slow = script(folder.path(), "slow", "#!/bin/sh\nwhile :; do :; done\n");
    let thief = script(folder.path(), "thief", "#!/bin/sh\n/usr/bin/id > /dev/null || exit 69\n");
    let root = tool::succeed("id", &["-u"]).trim() == "0";
    let mut sets: Vec<String> = vec![
        "listener.mx.preset=relay".into(),
        "relay.networks=[\"127.0.0.0/8\"]".into(),
        format!("pipe.good.command=[\"{good}\", \"an argument; with $(everything)\"]"),
        "pipe.good.also-run=[\"/bin/mv\"]".into(),
        format!("pipe.gone.command=[\"{gone}\"]"),
        format!("pipe.slow.command=[\"{slow}\"]"),
        "pipe.slow.timeout=1s".into(),
        format!("pipe.thief.command=[\"{thief}\"]"),
    ];
    for name in ["good", "gone", "slow", "thief"] {
        sets.push(format!("transport.\"{name}.example\"=\"pipe:{name}\""));
        if root {
            sets.push(format!("pipe.{name}.user=nobody"));
        }
    }
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let server = Waypost::start(&sets);
    let send = |to: &str| Dialog::greeted(server.mx).deliver("alice@waypost.test", &[to], BODY);
    send("in@good.example");
    let text = wait_for("what the program wrote", Duration::from_secs(20), || std::fs::read_to_string(&out).ok());
    assert!(text.contains("Subject: in") && text.contains("Hello"), "{text}");
    assert!(text.ends_with("alice@waypost.test in@good.example an argument; with $(everything)\n"), "{text}");
    if root {
        let nobody: u32 = tool::succeed("id", &["-u", "nobody"]).trim().parse().expect("a number");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&out).expect("written")), nobody);
    }
    send("joe@gone.example");
    let report = server.wait_for_mail("alice", 1).remove(0);
    assert!(report.contains("Status: 5.1.1") && report.contains("nobody called"), "{report}");
    send("in@slow.example");
    let event = wait_for("the end of a slow program", Duration::from_secs(20), || {
        server.events("attempted").into_iter().find(|event| event["recipient"] == "in@slow.example")
    });
    assert_eq!(event["outcome"], "delayed", "{event}");
    assert!(event["reply"].as_str().is_some_and(|reply| reply.contains("after 1 s")), "{event}");
    if server.log().contains("Landlock") && !server.log().contains("no Landlock") {
        send("in@thief.example");
        assert!(server.wait_for_mail("alice", 2).iter().any(|report| report.contains("in@thief.example")));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    assert!(status.contains("Seccomp:\t2"), "{status}");
}
