//! The configuration as its readers meet it: a text, and what is said about it.

use std::path::PathBuf;

use crate::model::{AuthMode, TlsMode};
use crate::{Config, Mistakes, Source, Surroundings, load, manual};

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Desk {
        Desk { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("make the folder");
        std::fs::write(&path, text).expect("write the file");
        path
    }

    fn surroundings(&self) -> Surroundings {
        let folder = self.folder.path().to_path_buf();
        Surroundings {
            plugin_folders: vec![folder.join("built")],
            folder,
            hostname: Some("mx.example.net".into()),
            plugins_required: true,
        }
    }

    fn load(&self, text: &str, overrides: &[&str]) -> Result<Config, Mistakes> {
        let file = self.write("w.toml", text);
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        load(&Source::File(file), &overrides, &self.surroundings())
    }
}

/// The smallest useful file.
const SMALL: &str = "[listener.mx]\npreset = \"mx\"\nbind = \"127.0.0.1:2525\"\n";

/// The mistakes of a text, without the folder in front.
fn mistakes(text: &str, overrides: &[&str]) -> String {
    let desk = Desk::new();
    let told = desk.load(text, overrides).expect_err("there are mistakes").to_string();
    told.replace(&format!("{}/", desk.folder.path().display()), "")
}

#[test]
fn a_small_file_is_enough() {
    let config = Desk::new().load(SMALL, &[]).expect("no mistakes");
    assert_eq!(config.hostname.as_str(), "mx.example.net");
    let mx = &config.listeners[0];
    assert_eq!((mx.tls, mx.auth, mx.relay_users), (TlsMode::Opportunistic, AuthMode::Off, false));
    assert!(config.queue.sync);
}

#[test]
fn a_port_may_differ_from_its_preset_in_one_setting_alone() {
    let text = "[listener.s]\npreset = \"submission\"\nbind = \"*:587\"\nmessage-size = \"100 MiB\"\n";
    let config = Desk::new().load(text, &[]).expect("no mistakes");
    let s = &config.listeners[0];
    assert_eq!((s.tls, s.auth, s.relay_users), (TlsMode::Required, AuthMode::Required, true));
    assert_eq!((s.message_size, s.bind.len()), (100 << 20, 2));
}

#[test]
fn a_port_may_have_tls_of_its_own() {
    let desk = Desk::new();
    for name in ["a.crt", "a.key", "b.crt", "b.key"] {
        desk.write(name, "");
    }
    let text = "[tls]\ncertificate = \"a.crt\"\nkey = \"a.key\"\ntickets = false\n\
        [listener.mx]\npreset = \"mx\"\nbind = \"*:25\"\n\
        [listener.s]\npreset = \"submission\"\nbind = \"*:587\"\ntls-version-min = \"1.3\"\ntls-certificate = \"b.crt\"\ntls-key = \"b.key\"\n";
    let config = desk.load(text, &[]).expect("no mistakes");
    let [mx, s] = config.listeners.as_slice() else { panic!("two listeners") };
    assert!(mx.tls_policy.pairs[0].0.ends_with("a.crt") && s.tls_policy.pairs[0].1.ends_with("b.key"));
    assert_eq!((mx.tls_policy.only_1_3, s.tls_policy.only_1_3), (false, true));
    assert!(!s.tls_policy.tickets, "where the port is silent, [tls] counts");
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_lines() {
    let told = mistakes(
        "hostnmae = \"x\"\n[listener.mx]\npreset = \"mxx\"\nbind = \"127.0.0.1\"\nlifetime = \"5d\"\n[queue]\nretry-max = 7\n[tls]\ncertificate = \"gone.pem\"\n",
        &["log.level=loud"],
    );
    let expected = "\
w.toml:1:1: unknown setting `hostnmae`
    did you mean `hostname`?
w.toml:3:10: `listener.mx.preset` cannot be \"mxx\"
    did you mean \"mx\"? The choices are mx, submission, submissions, lmtp, relay
w.toml:4:8: `listener.mx.bind` cannot be \"127.0.0.1\"
    write an address with a port: \"127.0.0.1:25\", \"[::1]:25\", or \"*:25\" for all
w.toml:5:1: unknown setting `listener.mx.lifetime`
    `lifetime` belongs into [queue]
w.toml:7:13: `queue.retry-max` cannot be 7
    write a time such as \"90s\", \"5m\", \"4h\" or \"5d\", 1s to 7d
w.toml:9:15: `tls.certificate`: cannot read gone.pem: no such file or directory
    correct the path (it is relative to the file that names it), or the file's owner and mode
--set log.level=loud: `log.level` cannot be \"loud\"
    the choices are error, warn, info, debug, trace
7 mistakes";
    assert_eq!(told, expected);
}

#[test]
fn postfix_names_lead_to_ours() {
    let told = mistakes(&format!("message_size_limit = 5\n{SMALL}"), &[]);
    assert!(told.contains("what Postfix calls message_size_limit is `listener.NAME.message-size` here"), "{told}");
}

#[test]
fn what_does_not_go_together_is_told() {
    for (text, problem) in [
        (
            "[listener.a]\npreset=\"submission\"\nbind=\"127.0.0.1:1\"\ntls=\"none\"",
            "passwords would cross the network",
        ),
        ("[listener.a]\npreset=\"submission\"\nbind=\"127.0.0.1:1\"\nauth=\"off\"", "nobody can log in"),
        ("[listener.a]\npreset=\"relay\"\nbind=\"127.0.0.1:1\"", "there are none"),
        ("[listener.a]\npreset=\"mx\"\nbind=\"127.0.0.1:8025\"", "`admin.bind`"),
        ("[domains]\nown=\"a.test\"\nrelay=\"A.test\"", "stands in `domains.own` and in `domains.relay`"),
        ("[relay]\nnetworks=\"0.0.0.0/0\"", "open relay"),
        ("[relay]\nnetworks=\"192.0.2.1/24\"", "write 192.0.2.0/24"),
        ("[queue]\nretry-first=\"1d\"", "longer than"),
        ("[aliases.names]\nroot=\"alcie\"\n[users]\nmailboxes=[\"alice\"]", "did you mean `alice`"),
        ("[aliases.names]\nroot=\"|/bin/sh\"", "run no programs"),
        ("[transport]\n\"*\"=\"smpt:x\"", "is no transport"),
        ("[transport]\n\"a b\"=\"mx\"", "is no domain"),
        ("[plugins]\nchain=\"nope\"", "no waypost_plugin_nope.wasm or nope.wasm"),
        ("[plugin.x]\nkeys=\"k\"", "there is no [dkim.k]"),
        ("[listener.b]\npreset=\"mx\"\nbind=\"127.0.0.1:2525\"", "stands in `listener.mx.bind`"),
        ("[listener.b]\nbind=\"127.0.0.1:1\"", "`listener.b.preset` is missing"),
        (
            "[dkim.a]\ndomain=\"a.test\"\nselector=\"s\"\n[dkim.b]\ndomain=\"a.test\"\nselector=\"s\"",
            "selector of its own",
        ),
        ("[users]\nfile=\"gone\"", "cannot read gone"),
        ("[tls]\nversion-min=\"1.3\"\nciphers=\"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\"", "only TLS 1.3 is allowed"),
        ("[tls]\nciphers=\"RC4-SHA\"", "RC4-SHA"),
        ("queue = 3", "begin it with a line [queue]"),
        ("hostname = \"short\"", "is no full name"),
        ("hostname = 3", "write a domain"),
        ("[users]\nseparator = \"+@\"", "cannot part a name"),
        ("[listener.a]\npreset=\"mx\"\nbind=\"127.0.0.1:1\"\nxclient=\"0.0.0.0/0\"", "pass for any client"),
        ("[listener.a]\npreset=\"mx\"\nbind=\"127.0.0.1:1\"\nproxy-protocol=\"::/0\"", "pass for any client"),
        (
            "[listener.a]\npreset=\"mx\"\nbind=\"127.0.0.1:1\"\nmask-for={ \"nowhere\" = [\"DSN\"] }",
            "`nowhere` is no network",
        ),
        ("[listener.a]\npreset=\"mx\"\nbind=\"127.0.0.1:1\"\nmask=[\"CHUNKNIG\"]", "did you mean \"CHUNKING\""),
        (
            "[listener.a]\npreset=\"submission\"\nbind=\"127.0.0.1:1\"\nmask=[\"STARTTLS\"]",
            "without which nothing is taken",
        ),
        ("[listener.a]\npreset=\"lmtp\"\nbind=\"127.0.0.1:25\"", "RFC 2033"),
        ("[greylist]\nsenders=[\"not a sender\"]", "is no address and no domain"),
        ("[greylist]\ndelay=\"1d\"\nwindow=\"1h\"", "is forgotten"),
    ] {
        let top_first = if text.starts_with('[') { format!("{SMALL}{text}") } else { format!("{text}\n{SMALL}") };
        let told = mistakes(&top_first, &[]);
        assert!(told.contains(problem), "{text}\n{told}");
        assert!(told.ends_with("1 mistake") || text.starts_with("[listener.b]"), "{text}\n{told}");
    }
}

#[test]
fn tables_are_read_with_their_lines() {
    let desk = Desk::new();
    desk.write("aliases", "root: alice\nwebmaster: nobody\n");
    desk.write("users", "alice:$argon2id$x\nbob:secret\n");
    let text = format!("{SMALL}[aliases]\nfiles = \"aliases\"\n[users]\nfile = \"users\"\n");
    let told = desk.load(&text, &[]).expect_err("two").to_string();
    assert!(told.contains("aliases:2:1: the alias `webmaster` leads to `nobody`"), "{told}");
    assert!(told.contains("users:2:1: the password of `bob` is no hash"), "{told}");
    assert!(told.ends_with("2 mistakes"), "{told}");
}

#[test]
fn tables_of_every_kind_are_read_and_told_about() {
    let desk = Desk::new();
    desk.write("virtual", "info@example.com alice\n");
    desk.write("nets", "192.0.2.0/24 OK\n");
    desk.write("patterns", "/^(.*)@old$/ $1@new\n");
    desk.write("broken", "/(?=x)/ y\n\n/a/ b\n/c/\n");
    let good = "[table.v]\nfile = \"virtual\"\n[table.n]\nkind = \"cidr\"\nfile = \"nets\"\n[table.p]\nkind = \"pcre\"\nfile = \"patterns\"\n\
        [table.i]\nkind = \"inline\"\nrows = { a = \"b\", \"192.0.2.1\" = [\"c\", \"d\"] }\n\
        [table.r]\nkind = \"redis\"\nserver = \"127.0.0.1:6379\"\n[aliases]\ntables = [\"v\", \"r\"]\n";
    let config = desk.load(&format!("{SMALL}{good}"), &[]).unwrap_or_else(|told| panic!("{told}"));
    assert_eq!(config.tables.len(), 5);
    assert_eq!(config.alias_tables, ["v", "r"]);
    let bad = "[table.b]\nkind = \"pcre\"\nfile = \"broken\"\n[table.s]\nkind = \"sqlite\"\n[table.t]\nkind = \"inline\"\nfile = \"virtual\"\n\
        [aliases]\ntables = \"w\"\n";
    let told = desk.load(&format!("{SMALL}{bad}"), &[]).expect_err("six").to_string();
    for problem in [
        "broken:1:1: /(?=x)/: look-around",
        "broken:4:1: there is no value",
        "`table.s.file` is missing",
        "`table.t.file` means nothing for a table of kind inline",
        "`aliases.tables` names the table w, but there is no [table.w]",
    ] {
        assert!(told.contains(problem), "{problem}\n{told}");
    }
}

#[test]
fn checks_differ_by_port_and_every_slip_is_told() {
    use waypost_types::checks::{Action, Check};
    let desk = Desk::new();
    let table = "[table.people]\nkind = \"inline\"\nrows = { \"192.0.2.1\" = \"OK\" }\n";
    let text = format!(
        "{SMALL}{table}[checks]\nrelay = \"554 no\"\nhelo-fqdn = \"warn\"\nclient-access = \"people\"\n[listener.mx.checks]\nhelo-fqdn = \"defer\"\nsender-domain = \"off\"\n"
    );
    let config = desk.load(&text, &[]).unwrap_or_else(|told| panic!("{told}"));
    let checks = &config.listeners[0].checks;
    let reply = |check| match checks.actions.get(check) {
        Action::Say(reply) => reply.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(reply(Check::Relay), "554 5.7.1 no");
    assert_eq!(reply(Check::HeloFqdn), "450 4.5.2 HELO needs a fully qualified name");
    assert_eq!(reply(Check::SenderDomain), "Off");
    assert_eq!(checks.client, ["people"]);
    let wrong = "[checks]\nrelay = \"off\"\nclient-access = \"nobody\"\n[listener.mx.checks]\nhelo-fqnd = \"reject\"\nhelo-own = \"perhaps\"\n";
    let told = desk.load(&format!("{SMALL}{wrong}"), &[]).expect_err("four").to_string();
    for problem in ["open relay", "names the table nobody", "did you mean `helo-fqdn`", "is no action"] {
        assert!(told.contains(problem), "{problem}\n{told}");
    }
    assert!(told.ends_with("4 mistakes"), "{told}");
}

#[test]
fn alias_files_include_others_and_own_lists() {
    let desk = Desk::new();
    desk.write("aliases", "list: :include:members, alice\nowner-list: alice\nfar: :include:gone\npipe: \"|x\"\n");
    desk.write("members", "bob@example.com\n# nobody else\n");
    desk.write("users", "alice:$argon2id$x\n");
    let text = format!("{SMALL}[aliases]\nfiles = \"aliases\"\n[users]\nfile = \"users\"\n");
    let told = desk.load(&text, &[]).expect_err("two").to_string();
    assert!(told.contains("aliases:3:1: :include:gone: cannot read"), "{told}");
    assert!(told.contains("aliases:4:1: ") && told.ends_with("2 mistakes"), "{told}");
    desk.write("aliases", "list: :include:members, alice\nowner-list: alice\n");
    let config = desk.load(&text, &[]).unwrap_or_else(|told| panic!("{told}"));
    assert_eq!(config.aliases[0].targets.len(), 2);
}

#[test]
fn the_demo_has_no_mistakes_and_its_ports_can_be_moved() {
    let desk = Desk::new();
    for plugin in ["whitelist", "dns_lists", "spam_score", "dkim_sign"] {
        desk.write(&format!("built/waypost_plugin_{plugin}.wasm"), "");
    }
    desk.write("waypost-data/users", "alice:$argon2id$x\nbob:$argon2id$y\n");
    let moved =
        ["listener.mx.bind=127.0.0.1:3525".to_string(), "plugin.whitelist.config.allow=[\"192.0.2.1\"]".to_string()];
    let config = load(&Source::Demo, &moved, &desk.surroundings()).expect("no mistakes");
    assert_eq!(config.listeners[0].bind, ["127.0.0.1:3525".parse().unwrap()]);
    assert_eq!(config.listeners.len(), 3);
    assert_eq!(config.plugins.len(), 4);
    assert_eq!(config.plugins[0].config, r#"{"allow":["192.0.2.1"]}"#);
    assert!(config.dkim.iter().all(|key| key.ours));
    assert_eq!(config.users.mail, desk.folder.path().join("waypost-data/mail"));
}

#[test]
fn a_missing_plugin_does_not_keep_anybody_from_the_queue() {
    let desk = Desk::new();
    let told = load(&Source::Demo, &[], &desk.surroundings()).expect_err("no plugin was built").to_string();
    assert!(told.contains("`make plugins`") && told.ends_with("4 mistakes"), "{told}");
    let without = Surroundings { plugins_required: false, ..desk.surroundings() };
    assert!(load(&Source::Demo, &[], &without).expect("no mistakes").plugins.is_empty());
}

#[test]
fn the_example_has_no_mistakes() {
    let config = Desk::new().load(&manual::example(), &[]).expect("no mistakes");
    assert_eq!(config.listeners.len(), 3);
}

#[test]
fn the_example_in_the_readme_has_no_mistakes() {
    let desk = Desk::new();
    for plugin in ["whitelist", "dns_lists", "spam_score", "dkim_sign"] {
        desk.write(&format!("built/waypost_plugin_{plugin}.wasm"), "");
    }
    desk.write("fullchain.pem", "");
    desk.write("key.pem", "");
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("```toml\n").expect("it has an example");
    let (text, _) = rest.split_once("```").expect("the example ends");
    // What the example names lies elsewhere here.
    let config = desk.load(&text.replace("/etc/waypost/", ""), &[]).unwrap_or_else(|told| panic!("{told}"));
    assert_eq!((config.listeners.len(), config.plugins.len(), config.dkim.len()), (3, 4, 1));
    assert!(config.notes.is_empty(), "{:?}", config.notes);
}

#[test]
fn a_reload_tells_what_has_to_wait() {
    let desk = Desk::new();
    let old = desk.load(SMALL, &[]).expect("no mistakes");
    let new = desk.load(SMALL, &["listener.mx.bind=127.0.0.1:3525", "listener.mx.errors=5"]).expect("no mistakes");
    assert_eq!(new.needs_restart(&old), ["listener.mx.bind"]);
}

#[test]
fn no_text_makes_the_reader_fall_over() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let pieces = [
        "[", "]", "listener", ".", "mx", "=", "\"", "\n", "5d", "{", "}", "é", "'", "bind", "#", ",", "\u{0}",
        "plugin", "1e400", "true",
    ];
    for _ in 0..500 {
        let mut text = String::new();
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(pieces[(state % pieces.len() as u64) as usize]);
        }
        let _ = Desk::new().load(&text, &[&text]);
    }
}

#[test]
fn a_plugin_of_the_chain_needs_no_section() {
    let desk = Desk::new();
    desk.write("built/quiet.wasm", "");
    let config = desk.load(&format!("{SMALL}[plugins]\nchain = [\"quiet\"]\n"), &[]);
    let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config.plugins.iter().map(|plugin| plugin.name.as_str()).collect::<Vec<_>>(), ["quiet"]);
}

#[test]
fn doors_differ_by_client() {
    let text = format!(
        "{SMALL}mask = [\"SMTPUTF8\"]\nmask-for = {{ \"192.0.2.0/24\" = [\"CHUNKING\", \"DSN\"] }}\nxclient = \"10.0.0.1\"\n\
         [greylist]\nenabled = true\nsenders = [\"a@b.example\", \"friend.example\"]\n"
    );
    let config = Desk::new().load(&text, &[]).expect("no mistakes");
    let mx = &config.listeners[0];
    assert_eq!((mx.mask.as_slice(), mx.proxies.len()), (["SMTPUTF8".to_string()].as_slice(), 1));
    assert_eq!(mx.mask_for[0].0.to_string(), "192.0.2.0/24");
    assert_eq!(mx.mask_for[0].1, ["CHUNKING", "DSN"]);
    assert_eq!(mx.offer, ["MT-PRIORITY", "DELIVERBY"]);
    assert!(mx.refuse_haste && !mx.greeting_delay.is_zero());
    let greylist = config.greylist.expect("it is enabled");
    assert_eq!((greylist.addresses.len(), greylist.domains.len()), (1, 1));
}

#[test]
fn decisions_say_what_becomes_of_mail_and_do_not_contradict() {
    let text = "[decision.default]\nheader-at = 5\nrefuse-at = 12.5\n\
        [decision.strict]\ndomains = 'strict.example'\nhold-at = 4\nlisteners = 'mx'\n";
    let config = Desk::new().load(&format!("{SMALL}{text}"), &[]).expect("no mistakes");
    let [default, strict] = &config.decisions[..] else { panic!("{:?}", config.decisions) };
    assert_eq!((default.header, default.refuse, default.hold), (Some(5.0), Some(12.5), None));
    assert_eq!((strict.hold, strict.tag.as_str(), strict.listeners.len()), (Some(4.0), "[SPAM]", 1));

    let told = mistakes(&format!("{SMALL}{text}[decision.more]\nrefuse-at = 3\n"), &[]);
    assert!(told.contains("[decision.default] and [decision.more] speak of the same mail"), "{told}");
    let told = mistakes(&format!("{SMALL}[decision.x]\nlisteners = ['mxx']\n"), &[]);
    assert!(told.contains("[decision.x] decides nothing") && told.contains("did you mean \"mx\"?"), "{told}");
    let told = mistakes(&format!("{SMALL}[decision.x]\nrefuse-at = 'ten'\n"), &[]);
    assert!(told.contains("write a number such as 5 or 7.5"), "{told}");
}
