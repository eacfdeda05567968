//! OpenLDAP: whose users log in, and whose entries are rows of a table.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use waypost_tests::{Authority, Dialog, Peer, Waypost, free_port, tool, wait_for};

use crate::login::plain;

const DIRECTORY: &str = "dn: dc=waypost,dc=test\nobjectClass: dcObject\nobjectClass: organization\no: Own\ndc: waypost\n\n\
    dn: uid=alice,dc=waypost,dc=test\nobjectClass: inetOrgPerson\nuid: alice\ncn: Alice\nsn: A\nmail: alice@waypost.test\nmail: al@waypost.test\nuserPassword: pencil12\n\n\
    dn: uid=bob,dc=waypost,dc=test\nobjectClass: inetOrgPerson\nuid: bob\ncn: Bob\nsn: B\nmail: bob@waypost.test\nemployeeType: sales\nuserPassword: other123\n\n\
    dn: uid=carl,dc=waypost,dc=test\nobjectClass: inetOrgPerson\nuid: carl\ncn: Carl\nsn: C\nmail: carl@waypost.test\nemployeeType: sales\n";

/// A directory with three people, on a port with StartTLS and on a socket.
pub(crate) struct Directory {
    pub(crate) folder: TempDir,
    authority: Authority,
    pub(crate) port: u16,
    peer: Option<Peer>,
}

impl Directory {
    pub(crate) fn start() -> Directory {
        let (folder, authority, port) = (TempDir::new().expect("a folder"), Authority::new(), free_port());
        let at = folder.path().display();
        let (certificate, key) = authority.host("localhost");
        let configuration = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude /etc/ldap/schema/inetorgperson.schema\n\
             pidfile {at}/slapd.pid\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             TLSCertificateFile {certificate}\nTLSCertificateKeyFile {key}\n\
             database mdb\nsuffix \"dc=waypost,dc=test\"\nrootdn \"cn=admin,dc=waypost,dc=test\"\nrootpw root-secret\ndirectory {at}/db\n"
        );
        fs::create_dir(folder.path().join("db")).expect("made");
        for (name, text) in
            [("slapd.conf", configuration.as_str()), ("directory.ldif", DIRECTORY), ("secret", "root-secret\n")]
        {
            fs::write(folder.path().join(name), text).expect("written");
        }
        tool::succeed("/usr/sbin/slapadd", &["-f", &format!("{at}/slapd.conf"), "-l", &format!("{at}/directory.ldif")]);
        let mut directory = Directory { folder, authority, port, peer: None };
        directory.run();
        directory
    }

    /// Starts it again.
    fn run(&mut self) {
        let configuration = self.file("slapd.conf");
        let places = format!("ldap://127.0.0.1:{} {}", self.port, self.socket());
        self.peer = Some(Peer::start("/usr/sbin/slapd", &["-h", &places, "-f", &configuration, "-d", "0"]));
        let answers = || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok();
        wait_for("slapd", Duration::from_secs(20), answers);
    }

    fn stop(&mut self) {
        self.peer = None;
    }

    fn file(&self, name: &str) -> String {
        path(&self.folder.path().join(name))
    }

    fn socket(&self) -> String {
        format!("ldapi://{}", self.file("ldapi").replace('/', "%2F"))
    }
}

fn path(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_string()
}

#[test]
fn a_directory_lets_its_users_in() {
    let mut directory = Directory::start();
    let url = format!("auth.ldap.url=ldap://localhost:{}", directory.port);
    let ca = format!("auth.ldap.ca-file={}", directory.authority.certificate());
    let secret = format!("auth.ldap.search-password={}", directory.file("secret"));
    let templated = [&url, &ca, "auth.ldap.bind-dn=uid=%u,dc=waypost,dc=test"];
    let searched = [
        &url,
        &ca,
        "auth.ldap.base=dc=waypost,dc=test",
        "auth.ldap.filter=(&(objectClass=inetOrgPerson)(|(uid=%u)(mail=%s)))",
        "auth.ldap.search-dn=cn=admin,dc=waypost,dc=test",
        &secret,
        "auth.ldap.user-attribute=mail",
    ];
    for settings in [&templated[..], &searched[..]] {
        let server = Waypost::start(&[&["auth.backend=ldap"], settings].concat());
        assert!(plain(&server, "alice@waypost.test", "pencil12").starts_with("235"), "{settings:?}");
        for (user, password) in
            [("alice@waypost.test", "wrong123"), ("nobody@waypost.test", "pencil12"), ("*", "pencil12")]
        {
            let reply = plain(&server, user, password);
            assert!(reply.starts_with("535 5.7.8"), "{user}: {reply}");
        }
    }
    let socket = format!("auth.ldap.url={}", directory.socket());
    let server = Waypost::start(&["auth.backend=ldap", &socket, "auth.ldap.bind-dn=uid=%u,dc=waypost,dc=test"]);
    assert!(plain(&server, "alice@waypost.test", "pencil12").starts_with("235"));
    directory.stop();
    assert!(plain(&server, "alice@waypost.test", "pencil12").starts_with("454 4.7.0"));
}

#[test]
fn a_directory_says_who_is_here_and_what_stands_behind_an_alias() {
    let mut directory = Directory::start();
    let url = format!("ldap://localhost:{}", directory.port);
    let mut sets = Vec::new();
    for (name, server, query, attribute) in
        [("people", url.clone(), "(mail=%s)", "uid"), ("groups", directory.socket(), "(employeeType=%u)", "mail")]
    {
        let set = |leaf: &str, value: &str| format!("table.{name}.{leaf}={value}");
        sets.extend([
            set("kind", "ldap"),
            set("server", &server),
            set("base", "dc=waypost,dc=test"),
            set("query", query),
            set("attribute", attribute),
            set("timeout", "3s"),
        ]);
    }
    sets.extend([
        format!("table.people.ca-file={}", directory.authority.certificate()),
        "table.people.user=cn=admin,dc=waypost,dc=test".into(),
        format!("table.people.password-file={}", directory.file("secret")),
        "users.mailbox-tables=people".into(),
        "aliases.tables=groups".into(),
    ]);
    let server = Waypost::start(&sets.iter().map(String::as_str).collect::<Vec<_>>());
    let mut dialog = Dialog::greeted(server.mx);
    dialog.deliver("joe@home.example", &["Carl@waypost.test", "sales@waypost.test"], "Subject: x\r\n\r\nhello\r\n");
    server.wait_for_mail("carl", 1);
    server.wait_for_mail("bob", 1);
    dialog.say("MAIL FROM:<joe@home.example>", 250);
    // What a client says is a value of the filter: this star finds nobody.
    for nobody in ["nobody", "*", "c*", "\"carl)(uid=*\""] {
        assert!(dialog.say(&format!("RCPT TO:<{nobody}@waypost.test>"), 550).starts_with("5.1.1"), "{nobody}");
    }
    // A connection that the directory has closed is made anew; a directory that is gone lets mail wait.
    directory.stop();
    assert!(dialog.say("RCPT TO:<carl@waypost.test>", 451).starts_with("4.3.0"));
    directory.run();
    dialog.say("RCPT TO:<carl@waypost.test>", 250);
}

#[test]
fn saslauthd_is_asked_in_its_own_words() {
    let directory = Directory::start();
    let (at, port) = (directory.folder.path(), directory.port);
    let configuration = format!(
        "ldap_servers: ldap://127.0.0.1:{port}/\nldap_search_base: dc=waypost,dc=test\nldap_filter: (uid=%u)\n"
    );
    let conf = directory.file("saslauthd.conf");
    fs::write(&conf, configuration).expect("written");
    let peer = Peer::start("/usr/sbin/saslauthd", &["-a", "ldap", "-O", &conf, "-m", &path(at), "-d", "-n", "1"]);
    wait_for("saslauthd", Duration::from_secs(20), || at.join("mux").exists().then_some(()));
    let server =
        Waypost::start(&["auth.backend=saslauthd", &format!("auth.saslauthd-socket={}", directory.file("mux"))]);
    assert!(plain(&server, "alice@waypost.test", "pencil12").starts_with("235"));
    assert!(plain(&server, "alice@waypost.test", "wrong123").starts_with("535 5.7.8"));
    drop(peer);
    let _ = fs::remove_file(at.join("mux"));
    assert!(plain(&server, "alice@waypost.test", "pencil12").starts_with("454 4.7.0"));
}
