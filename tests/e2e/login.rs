//! Every way to log in, with other people's clients and in front of other people's back ends (those with a directory: `directory`).

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use waypost_tests::{Authority, Peer, Waypost, free_port, tool, wait_for};

/// One login by Python, with the mechanism's messages as arguments; prints the last reply. `tls` is `start` or `implicit`.
const EXCHANGE: &str = r#"
import smtplib, ssl, sys, base64
port, tls, certificate, mechanism, *messages = sys.argv[1:]
context = ssl._create_unverified_context()
if certificate != '-':
    context.load_cert_chain(certificate)
if tls == 'implicit':
    s = smtplib.SMTP_SSL('127.0.0.1', int(port), timeout=30, context=context)
else:
    s = smtplib.SMTP('127.0.0.1', int(port), timeout=30)
    s.starttls(context=context)
s.ehlo()
offered = s.esmtp_features.get('auth', '').split()
if mechanism == 'offered':
    print(' '.join(offered)); sys.exit()
encode = lambda text: base64.b64encode(text.encode().decode('unicode_escape').encode('latin-1')).decode()
code, text = s.docmd('AUTH', mechanism + (' ' + (encode(messages[0]) or '=') if messages else ''))
for message in messages[1:]:
    if code != 334: break
    code, text = s.docmd(encode(message))
if code == 334:
    code, text = s.docmd('AQ==')
print(code, text.decode())
if code == 235:
    print(*s.mail('alice@waypost.test'))
"#;

fn exchange(port: u16, tls: &str, certificate: &str, mechanism: &str, messages: &[&str]) -> String {
    let port = port.to_string();
    let arguments = [&[port.as_str(), tls, certificate, mechanism], messages].concat();
    tool::python(EXCHANGE, &arguments)
}

/// SCRAM as a client has to do it, over pyOpenSSL, which can give what `tls-exporter` binds to.
const SCRAM: &str = r#"
import base64, hashlib, hmac, os, socket, sys
from OpenSSL import SSL
port, mechanism, flag, user, password = sys.argv[1:6]
versions = {'1.2': SSL.TLS1_2_VERSION, '1.3': SSL.TLS1_3_VERSION}
context = SSL.Context(SSL.TLS_CLIENT_METHOD)
context.set_max_proto_version(versions[sys.argv[6] if len(sys.argv) > 6 else '1.3'])
raw = socket.create_connection(('127.0.0.1', int(port)), 30)
s = SSL.Connection(context, raw)
s.set_connect_state(); raw.setblocking(True); s.do_handshake()
buffer = b''
def reply():
    global buffer
    lines = []
    while True:
        while b'\r\n' not in buffer:
            buffer += s.recv(65536)
        line, buffer = buffer.split(b'\r\n', 1)
        lines.append(line)
        if line[3:4] != b'-':
            return line, lines
def say(text):
    s.sendall(text.encode() + b'\r\n')
    return reply()
b64 = lambda data: base64.b64encode(data).decode()
reply()
_, ehlo = say('EHLO client.example')
offered = [line for line in ehlo if b'AUTH' in line][0]
if mechanism == 'offered':
    print(offered.decode()); sys.exit()
nonce = b64(os.urandom(18))
header = flag + ',,'
bare = 'n=%s,r=%s' % (user, nonce)
last, _ = say('AUTH %s %s' % (mechanism, b64((header + bare).encode())))
if not last.startswith(b'334'):
    print(last.decode()); sys.exit()
first = base64.b64decode(last[4:]).decode()
values = dict(part.split('=', 1) for part in first.split(','))
salted = hashlib.pbkdf2_hmac('sha256', password.encode(), base64.b64decode(values['s']), int(values['i']))
binding = header.encode()
if flag.startswith('p='):
    binding += s.export_keying_material(b'EXPORTER-Channel-Binding', 32, None)
mac = lambda key, text: hmac.new(key, text, 'sha256').digest()
final = 'c=%s,r=%s' % (b64(binding), values['r'])
message = ','.join((bare, first, final)).encode()
key = mac(salted, b'Client Key')
signature = mac(hashlib.sha256(key).digest(), message)
proof = bytes(a ^ b for a, b in zip(key, signature))
last, _ = say(b64(('%s,p=%s' % (final, b64(proof))).encode()))
if last.startswith(b'334'):
    verifier = base64.b64decode(last[4:]).decode()
    assert verifier == 'v=' + b64(mac(mac(salted, b'Server Key'), message)), 'the server does not know the password'
    last, _ = say('')
print(last.decode(), 'salt', values['s'], 'rounds', values['i'])
"#;

fn scram(port: u16, mechanism: &str, flag: &str, user: &str, password: &str) -> String {
    tool::python(SCRAM, &[&port.to_string(), mechanism, flag, user, password])
}

#[test]
fn scram_binds_the_channel_and_tells_nothing_about_who_exists() {
    let server = Waypost::start(&[]);
    let (port, password) = (server.submissions, server.password());
    let offered = scram(port, "offered", "", "", "");
    assert!(offered.contains("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"), "{offered}");
    let old = tool::python(SCRAM, &[&port.to_string(), "offered", "", "", "", "1.2"]);
    assert!(old.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN"), "nothing to bind to in TLS 1.2: {old}");
    for (mechanism, flag) in [("SCRAM-SHA-256", "n"), ("SCRAM-SHA-256-PLUS", "p=tls-exporter")] {
        for user in ["alice", "alice@waypost.test"] {
            let last = scram(port, mechanism, flag, user, &password);
            assert!(last.starts_with("235 2.7.0"), "{mechanism} {user}: {last}");
        }
    }
    let downgraded = scram(port, "SCRAM-SHA-256", "y", "alice", &password);
    assert!(downgraded.starts_with("535 5.7.8"), "{downgraded}");
    let salt = |text: &str| text.split(" salt ").nth(1).expect("a salt").trim().to_string();
    let wrong = scram(port, "SCRAM-SHA-256", "n", "alice", "wrong password");
    let unknown = scram(port, "SCRAM-SHA-256", "n", "nobody-here", "wrong password");
    let again = scram(port, "SCRAM-SHA-256", "n", "nobody-here@waypost.test", "another one");
    assert!(wrong.starts_with("535 5.7.8") && unknown.starts_with("535 5.7.8"), "{wrong}{unknown}");
    assert_eq!(salt(&unknown), salt(&again), "the salt of one who does not exist is always the same");
    assert_ne!(salt(&unknown), salt(&wrong));
    assert_eq!(salt(&unknown).len(), salt(&wrong).len());
}

/// curl, msmtp, gsasl and swaks, each as its users run it, on both ports.
#[test]
fn real_clients_log_in_by_every_mechanism_that_they_know() {
    let server = Waypost::start(&[]);
    let password = server.password();
    let folder = TempDir::new().expect("a folder");
    let mail = folder.path().join("mail");
    fs::write(&mail, "From: alice@waypost.test\r\nTo: alice@waypost.test\r\nSubject: x\r\n\r\nhello\r\n")
        .expect("written");
    let mail = mail.to_str().expect("UTF-8");
    let mut expected = 0;
    for (scheme, port) in [("smtp", server.submission), ("smtps", server.submissions)] {
        for mechanism in ["PLAIN", "LOGIN"] {
            let url = format!("{scheme}://127.0.0.1:{port}/client.example");
            let user = format!("alice:{password}");
            let option = format!("AUTH={mechanism}");
            let common = ["-sS", "-k", "--ssl-reqd", "--url", &url, "--user", &user, "--login-options", &option];
            let envelope = ["--mail-from", "alice@waypost.test", "--mail-rcpt", "alice@waypost.test", "-T", mail];
            tool::succeed("curl", &[&common[..], &envelope[..]].concat());
            let tls = if scheme == "smtp" { "--tls" } else { "--tls-on-connect" };
            let at = format!("127.0.0.1:{port}");
            let login =
                ["--server", &at, tls, "--auth", mechanism, "--auth-user", "alice", "--auth-password", &password];
            tool::succeed(
                "swaks",
                &[&login[..], &["--from", "alice@waypost.test", "--to", "alice@waypost.test"]].concat(),
            );
            expected += 2;
        }
        for mechanism in ["plain", "login", "scram-sha-256"] {
            let start = if scheme == "smtp" { "on" } else { "off" };
            let script = format!(
                "msmtp --host=127.0.0.1 --port={port} --tls=on --tls-starttls={start} --tls-certcheck=off --tls-trust-file= \
                 --auth={mechanism} --user=alice --passwordeval='echo {password}' --from=alice@waypost.test \
                 alice@waypost.test < {mail}"
            );
            tool::succeed("sh", &["-c", &script]);
            expected += 1;
        }
    }
    server.wait_for_mail("alice", expected);
    let all = server.events("authenticated");
    assert_eq!(all.len(), expected, "{}", server.log());
}

#[test]
fn bad_logins_cost_time_and_say_the_same() {
    let server = Waypost::start(&[]);
    let begun = std::time::Instant::now();
    let known = exchange(server.submission, "start", "-", "PLAIN", &["\\0alice\\0wrong"]);
    let unknown = exchange(server.submission, "start", "-", "PLAIN", &["\\0nobody\\0wrong"]);
    assert!(begun.elapsed() >= Duration::from_secs(3), "one second, then two");
    assert_eq!((known.trim(), unknown.trim()), ("535 5.7.8 authentication failed", "535 5.7.8 authentication failed"));
}

#[test]
fn a_login_sends_as_itself_only() {
    let server = Waypost::start(&["auth.senders.alice=[\"sales@partner.example\"]"]);
    let script = r#"
import smtplib, ssl, sys
s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=20)
s.starttls(context=ssl._create_unverified_context()); s.login('alice', sys.argv[2])
for sender in sys.argv[3:]:
    print(*s.mail(sender)); s.rset()
"#;
    let senders = [
        "alice@waypost.test",
        "alice+x@waypost.test",
        "postmaster@waypost.test",
        "sales@partner.example",
        "bob@waypost.test",
        "a@b.example",
        "",
    ];
    let port = server.submission.to_string();
    let replies = tool::python(script, &[&[port.as_str(), &server.password()][..], &senders[..]].concat());
    let codes: Vec<_> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "250", "250", "553", "553", "250"], "{replies}");
    assert!(replies.contains("5.7.1 alice may not send as bob@waypost.test"), "{replies}");
}

#[test]
fn a_client_certificate_logs_in_by_external() {
    let authority = Authority::new();
    let (ca, pair) = (authority.certificate(), authority.person("alice@waypost.test"));
    let server = Waypost::start(&[
        "listener.submission.client-certificate=ask",
        &format!("listener.submission.client-authorities=[\"{ca}\"]"),
    ]);
    let port = server.submission;
    assert!(exchange(port, "start", &pair, "offered", &[]).contains("EXTERNAL"));
    assert!(!exchange(port, "start", "-", "offered", &[]).contains("EXTERNAL"), "without a certificate it cannot work");
    assert!(exchange(port, "start", &pair, "EXTERNAL", &[""]).starts_with("235 2.7.0"));
    assert!(exchange(port, "start", &pair, "EXTERNAL", &["alice@waypost.test"]).starts_with("235 2.7.0"));
    assert!(exchange(port, "start", &pair, "EXTERNAL", &["bob"]).starts_with("535 5.7.8"));
    let others = Authority::new();
    let stranger = others.person("alice@waypost.test");
    assert!(
        exchange(port, "start", &stranger, "EXTERNAL", &[""]).starts_with("504"),
        "another authority's certificate"
    );
}

#[test]
fn tokens_are_checked_by_the_keys_of_the_provider() {
    let folder = TempDir::new().expect("a folder");
    let script = r#"
import base64, json, sys, time
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives import hashes
b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b'=').decode()
key = ec.generate_private_key(ec.SECP256R1())
numbers = key.public_key().public_numbers()
jwk = {'kty': 'EC', 'crv': 'P-256', 'kid': 'k1', 'x': b64(numbers.x.to_bytes(32, 'big')), 'y': b64(numbers.y.to_bytes(32, 'big'))}
open(sys.argv[1], 'w').write(json.dumps({'keys': [jwk]}))
def token(**claims):
    all = {'iss': 'https://id.test', 'aud': 'mail', 'exp': int(time.time()) + 600, 'email': 'alice@waypost.test'}
    all.update(claims)
    text = b64(json.dumps({'alg': 'ES256', 'kid': 'k1'}).encode()) + '.' + b64(json.dumps(all).encode())
    r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return text + '.' + b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))
print(token()); print(token(aud='web')); print(token(exp=int(time.time()) - 600)); print(token(email='stranger@gmail.example'))
"#;
    let jwks = folder.path().join("jwks.json").to_str().expect("UTF-8").to_string();
    let tokens = tool::python(script, &[&jwks]);
    let server = Waypost::start(&[
        &format!("auth.token.jwks={jwks}"),
        "auth.token.issuer=https://id.test",
        "auth.token.audience=[\"mail\"]",
    ]);
    for (at, token) in tokens.lines().enumerate() {
        let bearer = format!("n,a=alice@waypost.test,\\x01auth=Bearer {token}\\x01\\x01");
        let google = format!("user=alice@waypost.test\\x01auth=Bearer {token}\\x01\\x01");
        for (port, tls, mechanism, message) in
            [(server.submission, "start", "OAUTHBEARER", &bearer), (server.submissions, "implicit", "XOAUTH2", &google)]
        {
            let reply = exchange(port, tls, "-", mechanism, &[message]);
            let wanted = if at == 0 { "235 2.7.0" } else { "535 5.7.8" };
            assert!(reply.starts_with(wanted), "{mechanism}, token {at}: {reply}");
        }
    }
}

/// RFC 7662 over HTTPS: knows two tokens, one of them no longer active, and only the client that may ask.
const PROVIDER: &str = r#"
import base64, http.server, json, ssl, sys, urllib.parse
class Provider(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asks = self.headers['Authorization'] == 'Basic ' + base64.b64encode(b'waypost:client%20secret').decode()
        body = urllib.parse.parse_qs(self.rfile.read(int(self.headers['Content-Length'])).decode())
        token = body.get('token', [''])[0]
        said = {'active': token == 'good', 'iss': 'https://id.test', 'aud': 'mail', 'email': 'alice@waypost.test'}
        page = json.dumps(said if token in ('good', 'old') else {'active': False}).encode()
        self.send_response(200 if asks and self.path == '/introspect' else 401)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(page)))
        self.end_headers()
        self.wfile.write(page)
server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Provider)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

#[test]
fn tokens_are_checked_by_asking_the_provider() {
    let (authority, port) = (Authority::new(), free_port());
    let (certificate, key) = authority.host("localhost");
    let provider = Peer::python(PROVIDER, &[&port.to_string(), &certificate, &key]);
    wait_for("the provider", Duration::from_secs(20), || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let secret = authority.file("secret");
    fs::write(&secret, "client secret\n").expect("written");
    let settings = [
        format!("auth.token.introspection-url=https://localhost:{port}/introspect"),
        "auth.token.introspection-client=waypost".to_string(),
        format!("auth.token.introspection-secret={secret}"),
        "auth.token.issuer=https://id.test".to_string(),
        "auth.token.audience=[\"mail\"]".to_string(),
        "auth.timeout=3s".to_string(),
    ];
    let trusting = format!("auth.token.ca-file={}", authority.certificate());
    let refs: Vec<&str> = settings.iter().map(String::as_str).collect();
    let ask = |server: &Waypost, token: &str| {
        let bearer = format!("n,,\\x01auth=Bearer {token}\\x01\\x01");
        exchange(server.submission, "start", "-", "OAUTHBEARER", &[&bearer])
    };
    let server = Waypost::start(&[&refs[..], &[&trusting]].concat());
    for (token, wanted) in [("good", "235 2.7.0"), ("old", "535 5.7.8"), ("none", "535 5.7.8")] {
        let reply = ask(&server, token);
        assert!(reply.starts_with(wanted), "{token}: {reply}");
    }
    // A provider that nobody vouches for, or that is gone, is no word on the token.
    let distrusting = Waypost::start(&refs);
    let reply = ask(&distrusting, "good");
    assert!(reply.starts_with("454 4.7.0"), "{reply}");
    drop(provider);
    let reply = ask(&server, "good");
    assert!(reply.starts_with("454 4.7.0"), "{reply}");
}

/// Dovecot with a password file, for its auth socket alone.
fn dovecot(folder: &Path) -> Peer {
    let at = folder.display();
    let configuration = format!(
        "base_dir = {at}/run\nlog_path = {at}/dovecot.log\nprotocols =\nssl = no\ndisable_plaintext_auth = no\n\
         default_internal_user = nobody\ndefault_internal_group = nogroup\ndefault_login_user = nobody\n\
         auth_mechanisms = plain login cram-md5 scram-sha-256\nauth_failure_delay = 0\nauth_verbose = yes\n\
         passdb {{\n driver = passwd-file\n args = {at}/users\n}}\n\
         service auth {{\n user = root\n unix_listener {at}/auth-client {{\n  mode = 0666\n }}\n}}\n\
         service stats {{\n unix_listener stats-writer {{\n  mode = 0666\n }}\n}}\n"
    );
    fs::write(folder.join("dovecot.conf"), configuration).expect("written");
    fs::write(folder.join("users"), "alice@waypost.test:{PLAIN}pencil12\n").expect("written");
    let peer = Peer::start("/usr/sbin/dovecot", &["-F", "-c", &format!("{at}/dovecot.conf")]);
    wait_for("Dovecot's socket", Duration::from_secs(20), || folder.join("auth-client").exists().then_some(()));
    peer
}

#[test]
fn dovecot_knows_the_passwords_and_carries_out_mechanisms_of_its_own() {
    let folder = TempDir::new().expect("a folder");
    let peer = dovecot(folder.path());
    let socket = format!("auth.dovecot-socket={}/auth-client", folder.path().display());
    let mechanisms = "auth.mechanisms=[\"SCRAM-SHA-256\", \"CRAM-MD5\", \"PLAIN\", \"LOGIN\"]";
    let server = Waypost::start(&["auth.backend=dovecot", &socket, mechanisms]);
    let (port, user) = (server.submission, "alice@waypost.test");
    assert!(exchange(port, "start", "-", "PLAIN", &["\\0alice@waypost.test\\0pencil12"]).starts_with("235"));
    assert!(exchange(port, "start", "-", "LOGIN", &[user, "pencil12"]).starts_with("235"));
    let wrong = exchange(port, "start", "-", "PLAIN", &["\\0alice@waypost.test\\0wrong"]);
    assert!(wrong.starts_with("535 5.7.8"), "{wrong}");
    let scrammed = scram(server.submissions, "SCRAM-SHA-256", "n", user, "pencil12");
    assert!(scrammed.starts_with("235"), "{scrammed}");
    assert!(scram(server.submissions, "SCRAM-SHA-256", "n", user, "wrong").starts_with("535"));
    let script = r#"
import smtplib, ssl, sys
s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=20)
s.starttls(context=ssl._create_unverified_context()); s.ehlo()
s.user, s.password = sys.argv[2:4]
print(*s.auth('CRAM-MD5', s.auth_cram_md5))
"#;
    assert!(tool::python(script, &[&port.to_string(), user, "pencil12"]).starts_with("235"));
    drop(peer);
    let gone = exchange(port, "start", "-", "PLAIN", &["\\0alice@waypost.test\\0pencil12"]);
    assert!(gone.starts_with("454 4.7.0"), "{gone}");
}

pub(crate) fn plain(server: &Waypost, user: &str, password: &str) -> String {
    exchange(server.submission, "start", "-", "PLAIN", &[&format!("\\0{user}\\0{password}")])
}
