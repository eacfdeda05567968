//! Ports 587 and 465: TLS, then a login, then mail to anywhere, signed.

use std::fs;
use std::path::Path;

use waypost_tests::{Dialog, Manner, Sink, Waypost, tool};

fn relayed_by(server: &Waypost, port: u16, tls: &str, extra: &[&str]) -> String {
    let address = format!("127.0.0.1:{port}");
    let password = server.password();
    let mut arguments = vec!["--server", &address, tls, "--auth", "PLAIN", "--auth-user", "alice@waypost.test"];
    arguments.extend(["--auth-password", &password, "--from", "alice@waypost.test", "--to", "user@elsewhere.example"]);
    arguments.extend(extra);
    tool::succeed("swaks", &arguments)
}

fn site(sink: &Sink) -> Waypost {
    let route = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port);
    Waypost::start(&[&route])
}

#[test]
fn a_login_relays_once_and_signed_with_both_keys() {
    let sink = Sink::start(Manner::Polite);
    let server = site(&sink);
    relayed_by(&server, server.submission, "--tls", &[]);
    relayed_by(&server, server.submissions, "--tls-on-connect", &[]);
    waypost_tests::wait_for("both messages", std::time::Duration::from_secs(30), || {
        (sink.received().len() >= 2).then_some(())
    });
    let received = sink.received();
    assert_eq!(received.len(), 2);
    for message in &received {
        assert_eq!(message.rcpt, ["<user@elsewhere.example>"]);
        assert!(message.mail.starts_with("<alice@waypost.test>"), "{}", message.mail);
        let trace = message.header("Received").expect("a trace");
        assert!(trace.contains("with ESMTPSA"), "{trace}");
        verify_dkim(&server, &message.message);
    }
}

/// Verifies every signature with dkimpy, against the keys whose records the server wrote.
fn verify_dkim(server: &Waypost, message: &str) {
    let folder = server.data().join("dkim");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), message).expect("writable");
    let script = r#"
import sys, glob, re, dkim
message = open(sys.argv[1], 'rb').read()
records = {}
for path in glob.glob(sys.argv[2] + '/*.txt'):
    text = open(path).read()
    name = re.search(r'(\S+\._domainkey\.\S+?)\.?\s', text).group(1)
    records[name.encode()] = ''.join(re.findall(r'"([^"]*)"', text)).encode()
def dnsfunc(name, timeout=5):
    return records.get(name.rstrip(b'.'))
verifier = dkim.DKIM(message)
first = next(value for name, value in verifier.headers if name.lower() == b'dkim-signature')
assert b'a=rsa-sha256' in first, 'verifiers that try one signature try the first'
count = sum(1 for name, _ in verifier.headers if name.lower() == b'dkim-signature')
algorithms = set()
for index in range(count):
    one = dkim.DKIM(message)
    assert one.verify(index, dnsfunc=dnsfunc), 'signature %d does not verify' % index
    algorithms.add(one.signature_fields[b'a'])
assert algorithms == {b'rsa-sha256', b'ed25519-sha256'}, algorithms
print('ok')
"#;
    let path = file.path().to_string_lossy().into_owned();
    assert_eq!(tool::python(script, &[&path, &folder.to_string_lossy()]).trim(), "ok");
    verify_with_opendkim(&folder, &path);
}

/// The same with OpenDKIM.
fn verify_with_opendkim(keys: &Path, message: &str) {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let records = ["rsa", "ed25519"].map(|name| {
        let text = fs::read_to_string(keys.join(format!("{name}.txt"))).expect("written beside the key");
        let value: String = text.split('"').skip(1).step_by(2).collect();
        format!("{name}._domainkey.waypost.test {value}\n")
    });
    fs::write(at("records"), records.concat()).expect("writable");
    let settings = format!("Mode v\nSyslog no\nTestDNSData {}\n", at("records").display());
    fs::write(at("opendkim.conf"), settings).expect("writable");
    let output = tool::run("opendkim", &["-x", &at("opendkim.conf").to_string_lossy(), "-t", message, "-vv"]);
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    for algorithm in ["rsa-sha256", "ed25519-sha256"] {
        let passes = told.lines().any(|line| line.contains("dkim=pass") && line.contains(algorithm));
        assert!(passes, "OpenDKIM does not verify {algorithm}:\n{told}");
    }
}

#[test]
fn python_can_log_in_by_both_mechanisms() {
    let sink = Sink::start(Manner::Polite);
    let server = site(&sink);
    let script = r#"
import smtplib, ssl, sys
port, password = int(sys.argv[1]), sys.argv[2]
context = ssl._create_unverified_context()
for mechanism in ('PLAIN', 'LOGIN'):
    s = smtplib.SMTP('127.0.0.1', port, timeout=20)
    s.starttls(context=context); s.ehlo()
    assert s.has_extn('auth')
    s.user, s.password = 'alice@waypost.test', password
    s.auth(mechanism, getattr(s, 'auth_' + mechanism.lower()))
    s.sendmail('alice@waypost.test', ['user@elsewhere.example'], b'From: alice@waypost.test\r\nSubject: x\r\n\r\n.dot\r\n..two\r\n')
    s.quit()
s = smtplib.SMTP('127.0.0.1', port, timeout=20)
s.starttls(context=context); s.ehlo()
try:
    s.login('alice@waypost.test', 'wrong'); raise SystemExit('a wrong password was taken')
except smtplib.SMTPAuthenticationError as e:
    assert e.smtp_code == 535, e
"#;
    tool::python(script, &[&server.submission.to_string(), &server.password()]);
    waypost_tests::wait_for("both messages", std::time::Duration::from_secs(30), || {
        (sink.received().len() == 2).then_some(())
    });
    for message in sink.received() {
        assert!(message.message.ends_with("\r\n\r\n.dot\r\n..two\r\n"), "{}", message.message);
        assert!(
            message.header("Message-ID").is_some() && message.header("Date").is_some(),
            "a submission is completed"
        );
    }
}

#[test]
fn nothing_goes_before_tls_and_login() {
    let server = Waypost::start(&[]);
    let mut dialog = Dialog::connect(server.submission);
    dialog.expect(220);
    let ehlo = dialog.say("EHLO client.example", 250);
    assert!(ehlo.contains("STARTTLS") && !ehlo.contains("AUTH"), "{ehlo}");
    dialog.say("MAIL FROM:<alice@waypost.test>", 530);
    let script = r#"
import smtplib, ssl, sys
s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=20)
s.starttls(context=ssl._create_unverified_context()); s.ehlo()
code, text = s.mail('alice@waypost.test')
assert code == 530 and b'5.7.0' in text, (code, text)
"#;
    tool::python(script, &[&server.submission.to_string()]);
}

#[test]
fn commands_behind_starttls_do_not_survive_it() {
    let server = Waypost::start(&[]);
    let script = r#"
import socket, ssl, sys
raw = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=20)
raw.recv(4096); raw.sendall(b'EHLO a.example\r\n'); raw.recv(4096)
raw.sendall(b'STARTTLS\r\nEHLO injected.example\r\nRSET\r\n')
answer = raw.recv(4096)
if answer.startswith(b'220'):
    tls = ssl._create_unverified_context().wrap_socket(raw, server_hostname='waypost.test')
    tls.settimeout(2)
    try:
        got = tls.recv(4096)
        assert got == b'', got
    except (TimeoutError, socket.timeout):
        pass
    tls.settimeout(20)
    tls.sendall(b'NOOP\r\n')
    assert tls.recv(4096).count(b'\r\n') == 1
"#;
    tool::python(script, &[&server.mx.to_string()]);
}
