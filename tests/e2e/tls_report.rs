//! TLS reports (RFC 8460): counted while mail goes out, kept over a restart, sent signed, and valid.

use std::time::Duration;

use tempfile::TempDir;
use waypost_tests::zone::{Faults, Record, Zone};
use waypost_tests::{Dialog, Manner, Sink, Waypost, tool, wait_for};

const BODY: &str = "From: alice@waypost.test\r\nTo: user@far.example\r\nSubject: out\r\n\r\nHello\r\n";

/// Takes a report apart, validates its JSON, and verifies a DKIM signature of it.
const CHECK: &str = r#"
import sys, json, gzip, email, email.policy, re, glob, jsonschema, dkim
raw = open(sys.argv[1], 'rb').read()
message = email.message_from_bytes(raw, policy=email.policy.default)
assert message.get_content_type() == 'multipart/report' and message.get_param('report-type') == 'tlsrpt', message['Content-Type']
parts = list(message.iter_parts())
assert [part.get_content_type() for part in parts] == ['text/plain', 'application/tlsrpt+gzip'], parts
report = json.loads(gzip.decompress(parts[1].get_content()))
jsonschema.validate(report, json.load(open(sys.argv[2])))
assert re.fullmatch(r'[^!]+![^!]+!\d+!\d+\.json\.gz', parts[1].get_filename()), parts[1].get_filename()
assert message['TLS-Report-Domain'] == 'far.example' and message['TLS-Required'] == 'No'
records = {}
for path in glob.glob(sys.argv[3] + '/*.txt'):
    line = open(path).read()
    records[line.split()[0].rstrip('.').encode()] = ''.join(re.findall(r'"([^"]*)"', line)).encode()
assert dkim.verify(raw, dnsfunc=lambda name, timeout=5: records.get(name.rstrip(b'.'))), 'DKIM'
print(json.dumps(report))
"#;

#[test]
fn a_day_is_reported_signed_and_valid_to_whoever_asks_for_it() {
    let Some(sink) = Sink::start_at("127.0.0.33:25", Manner::Polite) else {
        return eprintln!("skipped: port 25 of 127.0.0.33 cannot be had");
    };
    let records = [
        ("far.example", Record::Mx(10, "mx.far.example".into())),
        ("mx.far.example", Record::A([127, 0, 0, 33].into())),
        ("_smtp._tls.far.example", Record::Txt("v=TLSRPTv1; rua=mailto:reports@far.example".into())),
        ("silent.example", Record::Mx(10, "mx.far.example".into())),
    ];
    let (folder, zone) = (TempDir::new().expect("a folder"), Zone::start(&records, Faults::default()));
    let sets = ["listener.mx.preset=relay", "relay.networks=[\"127.0.0.0/8\"]", "tls-report.send=true"];
    let mut server = Waypost::start_in(Some(folder.path()), Some(zone.port), &sets);
    let recipients = ["user@far.example", "user@silent.example"];
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &recipients, BODY);
    wait_for("both", Duration::from_secs(20), || (sink.count() >= 2).then_some(()));
    let shown = |server: &Waypost| server.command(&["tls-report", "show"]).1;
    wait_for("two domains", Duration::from_secs(10), || {
        let text = shown(&server);
        (text.contains("far.example") && text.contains("silent.example")).then_some(())
    });
    // The counters outlive the server.
    assert!(server.stop().success());
    server.run();
    let text = shown(&server);
    assert!(text.contains("starttls-not-supported") && text.lines().count() == 2, "{text}");
    let (status, text) = server.command(&["tls-report", "send"]);
    assert!(status.success() && text.contains("sent to 1 places") && text.contains("nobody there asks"), "{text}");
    let report = wait_for("the report", Duration::from_secs(20), || {
        sink.received().into_iter().find(|got| got.rcpt.iter().any(|rcpt| rcpt.starts_with("<reports@far.example>")))
    });
    assert!(report.mail.starts_with("<>"), "{}", report.mail);
    let file = folder.path().join("report.eml");
    std::fs::write(&file, &report.message).expect("written");
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/tls_report.schema.json");
    let keys = server.data().join("dkim");
    let json = tool::python(CHECK, &[&file.to_string_lossy(), schema, &keys.to_string_lossy()]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let policy = &json["policies"][0];
    assert_eq!(policy["policy"]["policy-type"], "no-policy-found", "{json}");
    assert_eq!(policy["summary"]["total-failure-session-count"], 1, "{json}");
    assert_eq!(policy["failure-details"][0]["result-type"], "starttls-not-supported", "{json}");
    assert_eq!(policy["failure-details"][0]["receiving-ip"], "127.0.0.33", "{json}");
    // What has been told is forgotten, and the report's own way is not counted.
    assert_eq!(shown(&server), "");
}

#[test]
fn a_policy_that_cannot_be_had_is_said_and_counted_and_holds_nobody_up() {
    let Some(sink) = Sink::start_at("127.0.0.34:25", Manner::Polite) else {
        return eprintln!("skipped: port 25 of 127.0.0.34 cannot be had");
    };
    // Connections to the web server are taken and never answered.
    let Ok(silent) = std::net::TcpListener::bind("127.0.0.34:443") else {
        return eprintln!("skipped: port 443 of 127.0.0.34 cannot be had");
    };
    let records = [
        ("far.example", Record::Mx(10, "mx.far.example".into())),
        ("mx.far.example", Record::A([127, 0, 0, 34].into())),
        ("_mta-sts.far.example", Record::Txt("v=STSv1; id=1;".into())),
        ("mta-sts.far.example", Record::A([127, 0, 0, 34].into())),
        ("near.example", Record::Mx(10, "mx.far.example".into())),
        ("_mta-sts.near.example", Record::Txt("v=STSv1; id=1;".into())),
        // Nobody listens there.
        ("mta-sts.near.example", Record::A([127, 0, 0, 35].into())),
    ];
    let (folder, zone) = (TempDir::new().expect("a folder"), Zone::start(&records, Faults::default()));
    let sets = ["listener.mx.preset=relay", "relay.networks=[\"127.0.0.0/8\"]", "tls-report.send=true"];
    let server = Waypost::start_in(Some(folder.path()), Some(zone.port), &sets);
    let begun = std::time::Instant::now();
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &["user@far.example", "user@near.example"], BODY);
    wait_for("both", Duration::from_secs(20), || (sink.count() >= 2).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    let failed = wait_for("the failure", Duration::from_secs(10), || server.events("policy_failed").pop());
    assert_eq!(
        (failed["domain"].as_str(), failed["fault"].as_str()),
        (Some("near.example"), Some("sts-policy-fetch-error"))
    );
    let (_, text) = server.command(&["tls-report", "show"]);
    assert!(text.contains("sts-policy-fetch-error") && text.contains("mta-sts.near.example"), "{text}");
    drop(silent);
}
