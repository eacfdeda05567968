//! Clients that send mail and log in.

use std::fs;

use tempfile::TempDir;
use waypost_tests::{Waypost, tool};

use crate::{clients, has};

/// A server, a folder, a message in it, and how many messages alice should have by now.
struct Site {
    server: Waypost,
    password: String,
    folder: TempDir,
    sent: usize,
}

/// A port, and how a client begins TLS there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// 25, in the clear.
    Clear,
    /// 25, STARTTLS.
    Mx,
    /// 587, STARTTLS.
    Submission,
    /// 465.
    Submissions,
}

impl Door {
    const ALL: [Door; 4] = [Door::Clear, Door::Mx, Door::Submission, Door::Submissions];
    /// Where one can log in.
    const LOGINS: [Door; 2] = [Door::Submission, Door::Submissions];

    fn port(self, server: &Waypost) -> u16 {
        match self {
            Door::Clear | Door::Mx => server.mx,
            Door::Submission => server.submission,
            Door::Submissions => server.submissions,
        }
    }
}

impl Site {
    fn start(settings: &[&str]) -> Site {
        let server = Waypost::start(settings);
        let (password, folder) = (server.password(), TempDir::new().expect("a folder"));
        let site = Site { server, password, folder, sent: 0 };
        let message = "From: alice@waypost.test\r\nTo: alice@waypost.test\r\nSubject: x\r\n\r\nhello\r\n.\r\n..\r\n";
        fs::write(site.file("mail"), message).expect("written");
        site
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_string()
    }

    fn authority(&self) -> String {
        self.server.data().join("tls/self-signed.crt").to_str().expect("UTF-8").to_string()
    }

    /// Runs a client that must succeed, and whose mail must arrive.
    fn sends(&mut self, program: &str, arguments: &[&str]) -> String {
        self.sent += 1;
        tool::succeed(program, arguments)
    }

    /// Everything that was said to be sent is there.
    fn finish(self) {
        let mail = self.server.wait_for_mail("alice", self.sent);
        assert_eq!(mail.len(), self.sent);
    }
}

/// Tokens that the server takes and does not take, by a key of the test's own; and the setting that names the key.
fn tokens(folder: &TempDir) -> (Vec<String>, String) {
    let jwks = folder.path().join("jwks.json").to_str().expect("UTF-8").to_string();
    let script = r#"
import base64, json, sys, time
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives import hashes
b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b'=').decode()
key = ec.generate_private_key(ec.SECP256R1())
numbers = key.public_key().public_numbers()
jwk = {'kty': 'EC', 'crv': 'P-256', 'x': b64(numbers.x.to_bytes(32, 'big')), 'y': b64(numbers.y.to_bytes(32, 'big'))}
open(sys.argv[1], 'w').write(json.dumps({'keys': [jwk]}))
for end in (600, -600):
    claims = {'exp': int(time.time()) + end, 'email': 'alice@waypost.test', 'iss': 'https://id.test', 'aud': 'mail'}
    text = b64(json.dumps({'alg': 'ES256'}).encode()) + '.' + b64(json.dumps(claims).encode())
    r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    print(text + '.' + b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big')))
"#;
    (tool::python(script, &[&jwks]).lines().map(str::to_string).collect(), format!("auth.token.jwks={jwks}"))
}

const TOKEN_SETTINGS: [&str; 2] = ["auth.token.issuer=https://id.test", "auth.token.audience=[\"mail\"]"];

#[test]
fn swaks() {
    if !has("swaks") {
        return;
    }
    let mut site = Site::start(&[]);
    let password = site.password.clone();
    for door in Door::ALL {
        let at = format!("127.0.0.1:{}", door.port(&site.server));
        let tls: &[&str] = match door {
            Door::Clear => &[],
            Door::Mx | Door::Submission => &["--tls"],
            Door::Submissions => &["--tls-on-connect"],
        };
        let common = ["--server", &at, "--from", "alice@waypost.test", "--to", "alice@waypost.test"];
        if !Door::LOGINS.contains(&door) {
            site.sends("swaks", &[&common[..], tls].concat());
            site.sends("swaks", &[&common[..], tls, &["--pipeline"]].concat());
            continue;
        }
        for mechanism in ["PLAIN", "LOGIN"] {
            let login = ["--auth", mechanism, "--auth-user", "alice", "--auth-password", &password];
            site.sends("swaks", &[&common[..], tls, &login].concat());
            // As who it logs in, and as whom it wants to work: PLAIN can say both.
            let wrong = ["--auth", mechanism, "--auth-user", "alice", "--auth-password", "wrong"];
            let refused = tool::run("swaks", &[&common[..], tls, &wrong].concat());
            assert_eq!(refused.status.code(), Some(28), "swaks: an authentication that failed");
        }
        let refused = tool::run("swaks", &[&common[..], tls].concat());
        assert_eq!(refused.status.code(), Some(23), "MAIL without a login");
    }
    // 25 knows no logins, and swaks looks for the extension first.
    let at = format!("127.0.0.1:{}", site.server.mx);
    let login =
        ["--server", &at, "--from", "alice@waypost.test", "--to", "alice@waypost.test", "--tls", "--auth", "PLAIN"];
    let login = [&login[..], &["--auth-user", "alice", "--auth-password", &password]].concat();
    assert_eq!(tool::run("swaks", &login).status.code(), Some(28));
    site.finish();
}

#[test]
fn curl() {
    if !has("curl") {
        return;
    }
    let keys = TempDir::new().expect("a folder");
    let (tokens, jwks) = tokens(&keys);
    let mut site = Site::start(&[&[jwks.as_str()][..], &TOKEN_SETTINGS].concat());
    let (mail, user, authority) = (site.file("mail"), format!("alice:{}", site.password), site.authority());
    for door in Door::ALL {
        let scheme = if door == Door::Submissions { "smtps" } else { "smtp" };
        // By the name that the certificate has, and with the certificate for an authority: no `-k`.
        let port = door.port(&site.server);
        let url = format!("{scheme}://localhost:{port}/client.example");
        let common = ["-sS", "--ipv4", "--cacert", &authority, "--url", &url, "-T", &mail, "--crlf"];
        let envelope = ["--mail-from", "alice@waypost.test", "--mail-rcpt", "alice@waypost.test"];
        let tls: &[&str] = if door == Door::Clear { &[] } else { &["--ssl-reqd"] };
        let base = [&common[..], &envelope, tls].concat();
        if !Door::LOGINS.contains(&door) {
            site.sends("curl", &base);
            continue;
        }
        for mechanism in ["PLAIN", "LOGIN"] {
            let option = format!("AUTH={mechanism}");
            site.sends("curl", &[&base[..], &["--user", &user, "--login-options", &option]].concat());
        }
        // Without --login-options it takes the best that both know; with the initial response in the command.
        site.sends("curl", &[&base[..], &["--user", &user, "--sasl-ir"]].concat());
        for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
            let option = format!("AUTH={mechanism}");
            let bearer = |token| {
                [&base[..], &["--user", "alice@waypost.test", "--oauth2-bearer", token, "--login-options", &option]]
                    .concat()
            };
            site.sends("curl", &bearer(tokens[0].as_str()));
            assert_eq!(tool::run("curl", &bearer(tokens[1].as_str())).status.code(), Some(67), "{mechanism}");
        }
        let refused = tool::run("curl", &[&base[..], &["--user", "alice:wrong"]].concat());
        assert_eq!(refused.status.code(), Some(67), "curl: login denied");
    }
    // What curl has beside sending: VRFY and HELP by `-X`, and a recipient that is not there.
    let url = format!("smtp://localhost:{}", site.server.mx);
    let vrfy = tool::succeed("curl", &["-sS", "--ipv4", "--url", &url, "--mail-rcpt", "alice@waypost.test"]);
    assert!(vrfy.starts_with("252 "), "{vrfy}");
    let nobody = ["-sS", "--ipv4", "--url", &url, "-T", &mail, "--mail-from", "a@b.example"];
    let refused = tool::run("curl", &[&nobody[..], &["--mail-rcpt", "nobody@waypost.test"]].concat());
    assert_eq!(refused.status.code(), Some(55), "curl: RCPT failed");
    site.sends(
        "curl",
        &[
            &nobody[..],
            &["--mail-rcpt", "nobody@waypost.test", "--mail-rcpt", "alice@waypost.test", "--mail-rcpt-allowfails"],
        ]
        .concat(),
    );
    site.finish();
}

/// Everything that smtplib does, on one port; prints how many messages were taken.
const SMTPLIB: &str = r#"
import smtplib, ssl, sys
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
door, port, authority, password = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
taken = 0
def client():
    if door == 'submissions':
        s = smtplib.SMTP_SSL('localhost', int(port), timeout=30, context=context)
    else:
        s = smtplib.SMTP('localhost', int(port), timeout=30)
        if door != 'clear':
            s.starttls(context=context)
    return s
def message(subject, policy=SMTP):
    m = EmailMessage(policy=policy)
    m['From'], m['To'], m['Subject'] = 'alice@waypost.test', 'alice@waypost.test', subject
    m.set_content('hello\n.\n..dots\n\u00fc')
    m.add_attachment(b'\0\1\2' * 2000, maintype='application', subtype='octet-stream', filename='x')
    return m
logins = [None] if door in ('clear', 'mx') else ['auto', 'PLAIN', 'LOGIN']
for login in logins:
    s = client()
    s.ehlo_or_helo_if_needed()
    if login == 'auto':
        s.login('alice', password)
    elif login:
        s.user, s.password = 'alice', password
        code, text = s.auth(login, getattr(s, 'auth_' + login.lower()))
        assert code == 235, (code, text)
    # Several in one session, with EHLO, RSET and NOOP between; 8-bit and UTF-8.
    s.send_message(message('one')); taken += 1
    assert s.noop()[0] == 250 and s.rset()[0] == 250 and s.ehlo()[0] == 250
    s.send_message(message('zw\u00f6lf', SMTPUTF8), mail_options=['SMTPUTF8', 'BODY=8BITMIME']); taken += 1
    # DSN, and SIZE that smtplib gives by itself.
    refused = s.sendmail('alice@waypost.test', ['alice@waypost.test', 'nobody@waypost.test'], message('dsn').as_bytes(),
        mail_options=['RET=HDRS', 'ENVID=a+2Bb'], rcpt_options=['NOTIFY=FAILURE,DELAY', 'ORCPT=rfc822;alice@waypost.test']); taken += 1
    assert refused == {'nobody@waypost.test': refused['nobody@waypost.test']} and refused['nobody@waypost.test'][0] == 550, refused
    try:
        s.sendmail('alice@waypost.test', ['nobody@waypost.test'], b'x'); raise SystemExit('taken')
    except smtplib.SMTPRecipientsRefused as error:
        assert list(error.recipients) == ['nobody@waypost.test']
    assert s.mail('alice@waypost.test', ['SIZE=999999999999'])[0] == 552
    assert s.verify('alice@waypost.test')[0] == 252
    assert s.docmd('EXPN', 'all')[0] in (502, 550, 252) and s.help()
    s.quit()
if door in ('submission', 'submissions'):
    s = client()
    try:
        s.login('alice', 'wrong'); raise SystemExit('let in')
    except smtplib.SMTPAuthenticationError as error:
        assert error.smtp_code == 535, error
    code, text = s.mail('alice@waypost.test'); assert code == 530, (code, text)
    s.close()
else:
    s = client(); s.ehlo(); assert not s.has_extn('auth'); s.quit()
# HELO alone.
s = client(); s.helo('old.example')
if door in ('clear', 'mx'):
    assert s.mail('alice@waypost.test')[0] == 250 and s.rcpt('alice@waypost.test')[0] == 250 and s.data(b'Subject: old\r\n\r\nx')[0] == 250; taken += 1
s.quit()
print(taken)
"#;

#[test]
fn smtplib() {
    let mut site = Site::start(&[]);
    let (authority, password) = (site.authority(), site.password.clone());
    for (door, name) in Door::ALL.into_iter().zip(["clear", "mx", "submission", "submissions"]) {
        let port = door.port(&site.server).to_string();
        let taken = tool::python(SMTPLIB, &[name, &port, &authority, &password]);
        site.sent += taken.trim().parse::<usize>().expect("a number");
    }
    site.finish();
}

const NODEMAILER: &str = r#"
const nodemailer = require(process.argv[1] + '/node_modules/nodemailer');
const [, , mx, submission, submissions, pass, good, bad] = process.argv;
const user = 'alice', address = 'alice@waypost.test';
const ports = [['587', {port: submission, requireTLS: true}], ['465', {port: submissions, secure: true}]];
const cases = [
  ['25 in the clear', {port: mx, ignoreTLS: true}], ['25', {port: mx, requireTLS: true}], ['25 if it can', {port: mx}],
  ...ports.flatMap(([name, at]) => [
    ...['PLAIN', 'LOGIN'].map(authMethod => [name + ' ' + authMethod, {...at, authMethod, auth: {user, pass}}]),
    [name + ' best', {...at, auth: {user, pass}}],
    [name + ' XOAUTH2', {...at, auth: {type: 'OAuth2', user: address, accessToken: good}}],
    [name + ' pool', {...at, pool: true, maxConnections: 3, maxMessages: 4, auth: {user, pass}}, 12],
    [name + ' wrong', {...at, auth: {user, pass: 'wrong'}}, 'EAUTH 535'],
    [name + ' stale token', {...at, auth: {type: 'OAuth2', user: address, accessToken: bad}}, 'EAUTH 535'],
    [name + ' without login', at, 'EENVELOPE 530'],
  ]),
];
(async () => {
  let taken = 0;
  for (const [name, options, wanted = 1] of cases) {
    const transport = nodemailer.createTransport({host: '127.0.0.1', tls: {rejectUnauthorized: false}, ...options});
    const mail = i => ({from: address, to: address, subject: 'zw\u00f6lf ' + i, text: 'hello\n.\n..dots\n', html: '<b>\u00fc</b>',
      attachments: [{filename: '\u00e4.txt', content: 'x'.repeat(3000)}],
      dsn: {id: 'x1', return: 'headers', notify: ['failure', 'delay'], recipient: address}});
    try {
      const count = typeof wanted === 'number' ? wanted : 1;
      const all = await Promise.all([...Array(count).keys()].map(i => transport.sendMail(mail(i))));
      if (typeof wanted === 'string' || all.some(one => !one.response.startsWith('250 2.0.0'))) throw new Error('taken: ' + name);
      taken += count;
    } catch (error) {
      const found = error.code + ' ' + error.responseCode;
      if (found !== wanted) { console.error(name, error); process.exit(1); }
    }
    transport.close();
  }
  console.log(taken);
})();
"#;

#[test]
fn nodemailer() {
    let there = clients().join("node_modules/nodemailer");
    if !has("node") || !has(there.to_str().expect("UTF-8")) {
        return;
    }
    let keys = TempDir::new().expect("a folder");
    let (tokens, jwks) = tokens(&keys);
    let mut site = Site::start(&[&[jwks.as_str()][..], &TOKEN_SETTINGS].concat());
    let folder = clients().to_str().expect("UTF-8").to_string();
    let [mx, submission, submissions] =
        [site.server.mx, site.server.submission, site.server.submissions].map(|port| port.to_string());
    // `node -e`: the first argument behind the script is argv[1].
    let arguments = ["-e", NODEMAILER, &folder, &mx, &submission, &submissions, &site.password, &tokens[0], &tokens[1]];
    let taken = tool::succeed("node", &arguments);
    site.sent += taken.trim().parse::<usize>().expect("a number");
    site.finish();
}

#[test]
fn msmtp() {
    if !has("msmtp") {
        return;
    }
    let keys = TempDir::new().expect("a folder");
    let (tokens, jwks) = tokens(&keys);
    let mut site = Site::start(&[&[jwks.as_str()][..], &TOKEN_SETTINGS].concat());
    let (mail, authority, password) = (site.file("mail"), site.authority(), site.password.clone());
    let run = |site: &Site, door: Door, login: &str| {
        let tls = match door {
            Door::Clear => "--tls=off".to_string(),
            Door::Submissions => format!("--tls=on --tls-starttls=off --tls-trust-file={authority}"),
            _ => format!("--tls=on --tls-starttls=on --tls-trust-file={authority}"),
        };
        let port = door.port(&site.server);
        format!(
            "msmtp --host=localhost --port={port} {tls} {login} --from=alice@waypost.test alice@waypost.test < {mail}"
        )
    };
    for door in Door::ALL {
        if !Door::LOGINS.contains(&door) {
            let script = run(&site, door, "--auth=off");
            site.sends("sh", &["-c", &script]);
            continue;
        }
        let secrets =
            [("plain", "alice", &password), ("login", "alice", &password), ("scram-sha-256", "alice", &password)];
        let bearers =
            [("oauthbearer", "alice@waypost.test", &tokens[0]), ("xoauth2", "alice@waypost.test", &tokens[0])];
        for (mechanism, user, secret) in secrets.into_iter().chain(bearers) {
            let login = format!("--auth={mechanism} --user={user} --passwordeval='echo {secret}'");
            let script = run(&site, door, &login);
            site.sends("sh", &["-c", &script]);
        }
        for (mechanism, secret) in [("scram-sha-256", "wrong"), ("oauthbearer", tokens[1].as_str())] {
            let login = format!("--auth={mechanism} --user=alice --passwordeval='echo {secret}'");
            let refused = tool::run("sh", &["-c", &run(&site, door, &login)]);
            // EX_NOPERM
            assert_eq!(refused.status.code(), Some(77), "{mechanism}: {}", String::from_utf8_lossy(&refused.stderr));
        }
    }
    let information = format!(
        "msmtp --serverinfo --host=localhost --port={} --tls=on --tls-trust-file={authority}",
        site.server.submission
    );
    let offered = tool::succeed("sh", &["-c", &information]);
    for word in ["PIPELINING", "DSN", "SCRAM-SHA-256", "PLAIN", "SIZE"] {
        assert!(offered.contains(word), "{word}: {offered}");
    }
    site.finish();
}

#[test]
fn gsasl() {
    if !has("gsasl") {
        return;
    }
    let site = Site::start(&[]);
    let (authority, at) = (site.authority(), format!("localhost:{}", site.server.submission));
    let run = |mechanism: &str, password: &str, more: &str| {
        let script = format!(
            "printf 'QUIT\\r\\n' | gsasl --smtp --connect {at} {mechanism} --authentication-id alice --authorization-id alice \
             --password '{password}' --x509-ca-file={authority} {more} 2>&1"
        );
        let output = tool::run("sh", &["-c", &script]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for (mechanism, more) in [("PLAIN", ""), ("LOGIN", ""), ("SCRAM-SHA-256", "--no-cb"), ("SCRAM-SHA-256-PLUS", "")] {
        let chosen = format!("--mechanism {mechanism}");
        let said = run(&chosen, &site.password, more);
        assert!(said.contains("Client authentication finished"), "{mechanism}: {said}");
        let said = run(&chosen, "wrong", more);
        assert!(!said.contains("Client authentication finished"), "{mechanism}: {said}");
    }
    // Left to choose, it takes the strongest that is offered.
    let said = run("", &site.password, "");
    assert!(said.contains("Client authentication finished"), "{said}");
}
