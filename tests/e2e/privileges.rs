//! Less power than it was started with: another user, confined, and the service manager's view of the unit.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use waypost_tests::{Dialog, Waypost, tool};

fn status(server: &Waypost, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a known field");
    line.trim_start_matches(':').split_whitespace().next().unwrap_or_default().to_string()
}

fn is_root() -> bool {
    tool::succeed("id", &["-u"]).trim() == "0"
}

#[test]
fn nothing_is_run_and_no_way_leads_back() {
    let server = Waypost::start(&[]);
    assert_eq!((status(&server, "NoNewPrivs").as_str(), status(&server, "Seccomp").as_str()), ("1", "2"));
    assert!(server.log().contains("seccomp"), "{}", server.log());
    let free = Waypost::start(&["security.confine=false"]);
    assert_eq!(status(&free, "Seccomp"), "0");
    assert!(free.log().contains("not confined"), "{}", free.log());
}

#[test]
fn root_becomes_the_named_user_and_mail_goes_on_after_a_restart() {
    if !is_root() {
        return eprintln!("skipped: only root can become somebody else");
    }
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    // What root made in an earlier life of the server is handed over.
    Waypost::start_in(Some(folder.path()), None, &[]).stop();
    let mut server = Waypost::start_in(Some(folder.path()), None, &["security.user=\"nobody\""]);
    let nobody: u32 = tool::succeed("id", &["-u", "nobody"]).trim().parse().expect("a number");
    assert_eq!(status(&server, "Uid"), nobody.to_string());
    assert_eq!(status(&server, "CapEff").trim_start_matches('0'), "");
    for (place, count) in [("before", 1), ("after", 2)] {
        let mut dialog = Dialog::greeted(server.mx);
        dialog.deliver("a@client.example", &["alice@waypost.test"], &format!("Subject: {place}\r\n\r\nx\r\n"));
        server.wait_for_mail("alice", count);
        assert_eq!(server.stop().code(), Some(0), "{}", server.log());
        let owner = std::fs::metadata(server.data().join("mail/alice/new")).expect("a Maildir").uid();
        assert_eq!(owner, nobody);
        // Root's commands leave files that the server can read.
        let (status, text) = server.command(&["user", "list"]);
        assert!(status.success(), "{text}");
        server.run();
    }
    assert_eq!(std::fs::metadata(server.data().join("users")).expect("made at first start").uid(), nobody);
}

#[test]
fn a_user_that_is_not_there_is_said_with_the_remedy() {
    if !is_root() {
        return eprintln!("skipped: only root can become somebody else");
    }
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let data = folder.path().join("data").display().to_string();
    let binary = waypost_tests::waypost::binary().to_string_lossy().into_owned();
    let sets = [
        "security.user=\"nosuch\"",
        "listener.mx.bind=\"127.0.0.1:0\"",
        "listener.submission.bind=\"127.0.0.1:0\"",
        "listener.submissions.bind=\"127.0.0.1:0\"",
        "admin.bind=\"127.0.0.1:0\"",
    ];
    let mut arguments = vec!["run", "--data", &data];
    sets.iter().for_each(|set| arguments.extend(["--set", set]));
    let output = tool::run(&binary, &arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("useradd --system nosuch"), "{text}");
}

#[test]
fn a_service_manager_is_told() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut server = Waypost::start_with_environment(&[("NOTIFY_SOCKET", &path.to_string_lossy())]);
    let said = || {
        let mut buffer = [0; 64];
        let len = socket.recv(&mut buffer).expect("a word from the server");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    assert_eq!(said(), "READY=1");
    server.stop();
    assert_eq!(said(), "STOPPING=1");
}

#[test]
fn the_unit_leaves_little_open() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/daemon/waypost.service");
    let output = tool::run("systemd-analyze", &["security", "--offline=yes", "--threshold=20", unit]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
