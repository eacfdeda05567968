//! Certificates: an authority of the test's own, and what it signs.

use tempfile::TempDir;

use crate::tool;

/// The authority, in a folder that goes with it.
pub struct Authority(TempDir);

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Authority {
        let authority = Authority(TempDir::new().expect("a folder"));
        let (key, certificate) = (authority.file("ca.key"), authority.file("ca.pem"));
        let subject = "/CN=Test CA";
        openssl(&format!("req -x509 {NEW_KEY} -days 30 -keyout {key} -out {certificate} -subj"), subject);
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> String {
        self.file("ca.pem")
    }

    /// A path in its folder.
    pub fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_string()
    }

    /// Certificate and key of a host.
    pub fn host(&self, name: &str) -> (String, String) {
        self.sign(name, &format!("subjectAltName=DNS:{name}\nbasicConstraints=critical,CA:FALSE\n"))
    }

    /// One file with certificate and key of a person.
    pub fn person(&self, email: &str) -> String {
        let extensions = "extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n";
        let (certificate, key) = self.sign("person", &format!("subjectAltName=email:{email}\n{extensions}"));
        let both = self.file("person.both");
        let read = |path: &str| std::fs::read_to_string(path).expect("just made");
        std::fs::write(&both, read(&certificate) + &read(&key)).expect("written");
        both
    }

    fn sign(&self, name: &str, extensions: &str) -> (String, String) {
        let [key, certificate] = ["key", "pem"].map(|end| self.file(&format!("{name}.{end}")));
        let [request, extended, ca, ca_key] = ["request", "extensions", "ca.pem", "ca.key"].map(|name| self.file(name));
        std::fs::write(&extended, extensions).expect("written");
        openssl(&format!("req {NEW_KEY} -keyout {key} -out {request} -subj"), &format!("/CN={name}"));
        let signing =
            format!("x509 -req -in {request} -CA {ca} -CAkey {ca_key} -CAcreateserial -days 30 -out {certificate}");
        openssl(&format!("{signing} -extfile"), &extended);
        (certificate, key)
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// Words, and a last argument that may hold blanks.
fn openssl(words: &str, last: &str) {
    let arguments: Vec<&str> = words.split(' ').chain([last]).collect();
    tool::succeed("openssl", &arguments);
}
