//! `waypost plugin`: the developer's loop, with the template and with the plugins that are shipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use waypost_tests::waypost::binary;
use waypost_tests::{Dialog, Waypost, wait_for};

/// Runs `waypost plugin …`; gives success and all that was printed.
fn plugin(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binary());
    command.arg("plugin").args(arguments).current_dir(folder);
    // What a new plugin links was fetched for the workspace; nobody is asked for anything newer.
    command.env("CARGO_NET_OFFLINE", "true").env("XDG_CACHE_HOME", folder.join("cache"));
    let output = command.output().expect("the binary starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let (done, text) = plugin(folder, arguments);
    assert!(done, "waypost plugin {arguments:?}\n{text}");
    text
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

/// A shipped component, where the server finds it.
fn shipped(name: &str) -> String {
    let file = format!("../wasm32-wasip2/release/waypost_plugin_{}.wasm", name.replace('-', "_"));
    binary().parent().expect("a folder").join(file).display().to_string()
}

#[test]
fn a_new_plugin_is_built_checked_tested_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(succeed(folder, &["new", "door-keeper", "--language", "rust"]).contains("waypost plugin build"));
    let (done, text) = plugin(folder, &["test", "door-keeper"]);
    assert!(!done && text.contains("waypost plugin build"), "{text}");
    assert!(succeed(folder, &["build", "door-keeper"]).contains("waypost_plugin_door_keeper.wasm"));
    let text = succeed(folder, &["check", "door-keeper"]);
    assert!(text.contains("door-keeper 0.1.0") && text.contains("asked at  mail\n"), "{text}");
    assert!(text.contains("grants    kv\n") && text.ends_with("ok\n"), "{text}");
    let text = succeed(folder, &["test", "door-keeper"]);
    assert!(text.contains("6 cases, all as expected"), "{text}");
    let text = succeed(folder, &["inspect", "door-keeper"]);
    assert!(text.contains("exports   lifecycle, on-mail") || text.contains("exports   on-mail, lifecycle"), "{text}");
    let text = succeed(folder, &["bench", "door-keeper", "--seconds", "0.1"]);
    assert!(text.contains("reused  mail") && text.contains("memory per instance"), "{text}");
}

#[test]
fn what_is_not_as_expected_is_told_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let case = folder.path().join("x.toml");
    std::fs::write(&case, "expect = { verdict = 'refuse', code = 550, facts = ['SOMETHING'] }").unwrap();
    let (done, text) = plugin(folder.path(), &["test", &shipped("whitelist"), case.to_str().unwrap()]);
    assert!(!done, "{text}");
    assert!(text.contains("FAIL x") && text.contains("verdict: expected refuse, got pass"), "{text}");
    assert!(text.contains("code: expected 550, got none") && text.contains("facts: expected SOMETHING"), "{text}");
    assert!(text.contains("1 of 1 cases are not as expected"), "{text}");
}

#[test]
fn a_plugin_s_name_and_folder_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (done, text) = plugin(folder.path(), &["new", "Door Keeper"]);
    assert!(!done && text.contains("lower-case letters"), "{text}");
    let (done, text) = plugin(folder.path(), &["new", "x", "--language", "cobol"]);
    assert!(!done && text.contains("no template for `cobol`; there are"), "{text}");
    let (done, text) = plugin(folder.path(), &["build", "."]);
    assert!(!done && text.contains("has no plugin.toml"), "{text}");
    let (done, text) = plugin(folder.path(), &["check", "/bin/true"]);
    assert!(!done && text.contains("is no component"), "{text}");
}

#[test]
fn the_shipped_plugins_play_their_cases() {
    let folder = tempfile::tempdir().unwrap();
    for (name, grants) in [("whitelist", ""), ("dns-lists", "dns"), ("spam-score", "kv"), ("dkim-sign", "crypto,keys")]
    {
        let cases = root().join("plugins").join(name).join("cases");
        let (component, cases) = (shipped(name), cases.display().to_string());
        let mut arguments = vec!["test", &component, &cases];
        if !grants.is_empty() {
            arguments.extend(["--grants", grants]);
        }
        let text = succeed(folder.path(), &arguments);
        assert!(text.contains("all as expected"), "{name}: {text}");
    }
}

#[test]
fn a_message_shows_what_the_plugin_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter.eml");
    std::fs::write(&letter, "From: a@example.net\nSubject: Hello\n\nBuy now\n").unwrap();
    let text = succeed(folder.path(), &["test", &shipped("spam-score"), letter.to_str().unwrap()]);
    assert!(text.contains("message  pass") && text.contains("+ X-Spam-Status: No, score="), "{text}");
}

const LETTER: &str = "From: a@example.net\r\nTo: alice@waypost.test\r\nSubject: x\r\n\r\nHello\r\n";

fn scored(waypost: &Waypost, count: usize) -> usize {
    waypost.wait_for_mail("alice", count).iter().filter(|mail| mail.contains("X-Spam-Status:")).count()
}

#[test]
fn versions_are_swapped_and_rolled_back_under_open_sessions() {
    let waypost = Waypost::start(&[]);
    let send = |client: &mut Dialog| client.deliver("a@example.net", &["alice@waypost.test"], LETTER);
    let mut early = Dialog::greeted(waypost.mx);
    // Another component in spam-score's place: one that adds no header.
    let (done, text) = waypost.command(&["plugin", "swap", "spam-score", &shipped("whitelist")]);
    assert!(done.success() && text.contains("judges the sessions that begin from now on"), "{text}");
    send(&mut Dialog::greeted(waypost.mx));
    assert_eq!(scored(&waypost, 1), 0, "a new session has the new version");
    send(&mut early);
    assert_eq!(scored(&waypost, 2), 1, "the old session has the old one, and was not dropped");
    let (done, text) = waypost.command(&["plugin", "rollback", "spam-score"]);
    assert!(done.success(), "{text}");
    send(&mut Dialog::greeted(waypost.mx));
    assert_eq!(scored(&waypost, 3), 2);
    let (done, text) = waypost.command(&["plugin", "swap", "spam-score", "/bin/true"]);
    assert!(!done.success() && text.contains("plugin spam-score: "), "{text}");
}

#[test]
fn a_shadow_is_counted_and_a_canary_takes_its_share() {
    let waypost = Waypost::start(&[]);
    let send = || Dialog::greeted(waypost.mx).deliver("a@example.net", &["alice@waypost.test"], LETTER);
    let (done, text) = waypost.command(&["plugin", "shadow", "spam-score", &shipped("whitelist")]);
    assert!(done.success() && text.contains("is on trial"), "{text}");
    send();
    assert_eq!(scored(&waypost, 1), 1, "the shadow changes nothing");
    let text = wait_for("the shadow's disagreement", Duration::from_secs(20), || {
        let (_, text) = waypost.command(&["plugin", "status"]);
        text.contains("1 questions answered, 1 otherwise, 0 left out").then_some(text)
    });
    assert!(text.contains("now:  pass") && text.contains("+X-Spam-Status") && text.contains("then: pass"), "{text}");
    let (done, text) = waypost.command(&["plugin", "canary", "spam-score", &shipped("whitelist"), "--share", "50"]);
    assert!(done.success(), "{text}");
    for _ in 0..4 {
        send();
    }
    assert_eq!(scored(&waypost, 5), 3, "half of four go to the new version");
    let (_, text) = waypost.command(&["plugin", "status"]);
    assert!(text.contains("canary of spam-score") && text.contains("50 % of the sessions"), "{text}");
    let (done, text) = waypost.command(&["plugin", "canary", "spam-score", "--end"]);
    assert!(done.success() && text.contains("is over"), "{text}");
}

#[test]
fn recorded_transactions_show_what_another_version_judges_otherwise() {
    let mut waypost = Waypost::start(&["record.share=100", "record.mask=[\"addresses\", \"login\", \"body\"]"]);
    for _ in 0..3 {
        Dialog::greeted(waypost.mx).deliver("ann@example.net", &["alice@waypost.test"], LETTER);
    }
    let folder = waypost.data().join("recorded");
    let files = |ending: &str| {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        entries
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(ending))
            .map(|e| e.path())
            .collect::<Vec<_>>()
    };
    wait_for("three recorded transactions", Duration::from_secs(20), || (files(".toml").len() == 3).then_some(()));
    waypost.stop();
    let case = std::fs::read_to_string(&files(".toml")[0]).unwrap();
    assert!(!case.contains("ann@") && case.contains("@example.net") && case.contains("[was.\"spam-score\"]"), "{case}");
    let letter = std::fs::read_to_string(&files(".eml")[0]).unwrap();
    assert!(letter.contains("Subject: x") && letter.contains("xxxxx") && !letter.contains("Hello"), "{letter}");
    // The masked body is not what was judged; a recording that is not masked is judged the same by the same version.
    let (done, text) = waypost.command(&["plugin", "replay", &shipped("whitelist"), "--name", "spam-score"]);
    assert!(done.success() && text.contains("3 transactions, 3 judged otherwise"), "{text}");
    assert!(text.contains("was: pass") && text.contains("      - "), "{text}");
}

#[test]
fn the_same_version_judges_what_was_recorded_the_same() {
    let mut waypost = Waypost::start(&["record.share=100", "record.mask=[]"]);
    Dialog::greeted(waypost.mx).deliver("ann@example.net", &["alice@waypost.test"], LETTER);
    let folder = waypost.data().join("recorded");
    wait_for("a recorded transaction", Duration::from_secs(20), || {
        std::fs::read_dir(&folder).is_ok_and(|entries| entries.count() == 2).then_some(())
    });
    waypost.stop();
    for name in ["spam-score", "whitelist", "dns-lists"] {
        let (done, text) = waypost.command(&["plugin", "replay", &shipped(name), "--name", name]);
        assert!(done.success() && text.contains("1 transactions, 0 judged otherwise"), "{name}: {text}");
    }
}
