//! Running it: checks, reload, an orderly end.

use std::time::Duration;

use waypost_tests::{Dialog, Waypost, tool, wait_for};

#[test]
fn check_tells_every_mistake_with_its_line() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(
        file.path(),
        "hostnam = \"mx.example.com\"\n[domains]\nown = [\"not a domain\"]\n[listener.mx]\npreset = \"mx\"\nbind = [\"nowhere\"]\n[queue]\ndurability = \"maybe\"\n",
    )
    .expect("writable");
    let output =
        tool::run(&waypost_tests::waypost::binary().to_string_lossy(), &["check", &file.path().to_string_lossy()]);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{text}");
    for part in [":1:", "hostname", ":3:", "not a domain", ":6:", "nowhere", ":8:", "maybe", "sync"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn check_asks_plugins_what_they_think_of_their_settings() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (status, text) =
        Waypost::stopped_in(folder.path(), &["plugin.spam-score.config.requird=3"]).command(&["check"]);
    assert!(!status.success() && text.contains("spam-score") && text.contains("unknown field `requird`"), "{text}");
    let (status, text) = Waypost::stopped_in(folder.path(), &[]).command(&["check"]);
    assert!(status.success() && text.contains("4 plugins"), "{text}");
}

#[test]
fn help_teaches_and_version_tells() {
    let binary = waypost_tests::waypost::binary();
    let binary = binary.to_string_lossy();
    for arguments in
        [&["--help"][..], &["run", "--help"], &["queue", "--help"], &["check", "--help"], &["send", "--help"]]
    {
        let text = tool::succeed(&binary, arguments);
        assert!(text.len() > 200, "{arguments:?}: {text}");
    }
    assert!(tool::succeed(&binary, &["version"]).contains("waypost 0."));
}

#[test]
fn sigterm_ends_with_zero_and_sigkill_loses_nothing() {
    let mut server = Waypost::start(&[]);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.deliver("a@client.example", &["alice@waypost.test"], "Subject: x\r\n\r\nx\r\n");
    server.wait_for_mail("alice", 1);
    assert_eq!(server.stop().code(), Some(0), "{}", server.log());
    server.run();
    server.kill();
    server.run();
    assert_eq!(server.mailbox("alice").len(), 1);
}

#[test]
fn a_reload_drops_no_session() {
    let server = Waypost::start(&[]);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.say("MAIL FROM:<a@client.example>", 250);
    server.signal("HUP");
    wait_for("the reload", Duration::from_secs(20), || server.log().contains("reloaded").then_some(()));
    dialog.say("RCPT TO:<alice@waypost.test>", 250);
    dialog.say("DATA", 354);
    dialog.send(b"Subject: x\r\n\r\nx\r\n");
    dialog.say(".", 250);
    server.wait_for_mail("alice", 1);
}

#[test]
fn the_admin_interface_answers() {
    let server = Waypost::start(&[]);
    let get = |path: &str| tool::succeed("curl", &["-sf", &format!("http://127.0.0.1:{}{path}", server.admin)]);
    get("/healthz");
    let metrics = get("/metrics");
    assert!(metrics.contains("# TYPE waypost_"), "{metrics}");
    assert!(get("/").to_lowercase().contains("waypost"));
}

#[test]
fn the_demo_password_is_only_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let server = Waypost::start(&[]);
    let mode = std::fs::metadata(server.data().join("demo-password")).expect("it exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(server.password().len() >= 12);
}

#[test]
fn a_port_in_use_is_said_by_name() {
    let server = Waypost::start(&[]);
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let data = folder.path().join("data");
    let output = tool::run(
        &waypost_tests::waypost::binary().to_string_lossy(),
        &[
            "run",
            "--data",
            &data.to_string_lossy(),
            "--set",
            &format!("listener.mx.bind=[\"127.0.0.1:{}\"]", server.mx),
        ],
    );
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success());
    assert!(text.contains(&server.mx.to_string()) && text.contains("in use"), "{text}");
}

#[test]
fn send_puts_a_message_on_its_way() {
    let server = Waypost::start(&[]);
    let (status, text) = server.command(&["send", "--from", "bob@waypost.test", "alice@waypost.test"]);
    assert!(status.success(), "{text}");
    server.wait_for_mail("alice", 1);
}

/// The protocol that an OpenSSL client ends up with, or nothing.
fn handshake(port: u16, options: &[&str]) -> Option<String> {
    let to = format!("127.0.0.1:{port}");
    let mut arguments = vec!["s_client", "-brief", "-starttls", "smtp", "-connect", &to];
    arguments.extend(options);
    let output = tool::run("openssl", &arguments);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    text.lines().find_map(|line| line.strip_prefix("Protocol version: ")).map(str::to_string)
}

#[test]
fn tls_differs_by_port_and_a_reload_that_fails_leaves_everything_as_it_was() {
    let mut server = Waypost::start(&[
        "listener.submission.tls-version-min=\"1.3\"",
        "listener.mx.tls-alpn=[\"smtp\"]",
        "listener.mx.tls-ciphers=[\"TLS_AES_128_GCM_SHA256\", \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\"]",
    ]);
    assert_eq!(handshake(server.mx, &["-tls1_2"]).as_deref(), Some("TLSv1.2"));
    assert_eq!(handshake(server.mx, &["-tls1_3"]).as_deref(), Some("TLSv1.3"));
    assert_eq!(handshake(server.mx, &["-ciphersuites", "TLS_AES_256_GCM_SHA384", "-tls1_3"]), None);
    assert_eq!(handshake(server.mx, &["-alpn", "http/1.1"]), None, "an HTTPS client led astray");
    assert_eq!(handshake(server.submission, &["-tls1_2"]), None);
    assert_eq!(handshake(server.submission, &["-tls1_3"]).as_deref(), Some("TLSv1.3"));
    let before = std::fs::read(server.data().join("tls/self-signed.crt")).expect("made on first start");
    std::fs::write(server.data().join("tls/self-signed.crt"), "half a file").expect("writable");
    server.signal("HUP");
    wait_for("the complaint", Duration::from_secs(20), || server.log().contains("not reloaded").then_some(()));
    assert!(server.log().contains("self-signed.crt"), "{}", server.log());
    assert_eq!(handshake(server.submission, &["-tls1_3"]).as_deref(), Some("TLSv1.3"));
    std::fs::write(server.data().join("tls/self-signed.crt"), before).expect("writable");
    assert_eq!(server.stop().code(), Some(0));
}
