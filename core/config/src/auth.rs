//! `[auth]`: what belongs together, and the [`Auth`] made of it.

use std::path::{Path, PathBuf};

use crate::mistake::{Mistake, Place};
use crate::model::{Auth, AuthBackend, CertificateUsers, Ldap, LdapSearch, Tokens};
use crate::sheet::Sheet;

/// Mechanisms that other programs alone can carry out.
const FOREIGN: [&str; 6] = ["CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "GSSAPI", "GSS-SPNEGO", "NTLM"];

/// Says what is wrong with `[auth]`, and what is worth knowing.
pub(crate) fn check(sheet: &Sheet, mistakes: &mut Vec<Mistake>, notes: &mut Vec<String>) {
    let mut check = Check { sheet, mistakes, notes };
    check.ldap();
    check.tokens();
    check.mechanisms();
    check.certificates();
}

struct Check<'a> {
    sheet: &'a Sheet,
    mistakes: &'a mut Vec<Mistake>,
    notes: &'a mut Vec<String>,
}

impl Check<'_> {
    fn mistake(&mut self, path: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.sheet.place(path), problem, remedy));
    }

    fn ldap(&mut self) {
        if self.sheet.word("auth.backend") != Some("ldap") {
            return;
        }
        let url = self.sheet.text("auth.ldap.url").map(str::to_string);
        match &url {
            None => {
                let remedy = "add `url = \"ldaps://dir.example.com\"` to [auth.ldap]";
                self.mistake("auth.backend", "`auth.ldap.url` is missing", remedy);
            }
            Some(url) if !["ldap://", "ldaps://", "ldapi://"].iter().any(|scheme| url.starts_with(scheme)) => {
                let remedy = "write ldaps://HOST, ldap://HOST:PORT or ldapi://%2Fpath%2Fto%2Fsocket";
                self.mistake("auth.ldap.url", format!("`auth.ldap.url` cannot be \"{url}\""), remedy);
            }
            Some(url) if url.starts_with("ldap://") && self.sheet.flag("auth.ldap.start-tls") == Some(false) => {
                self.notes.push("auth.ldap.start-tls = false: passwords cross the network readable".into());
            }
            Some(_) => {}
        }
        if self.sheet.text("auth.ldap.bind-dn").is_none() && self.sheet.text("auth.ldap.base").is_none() {
            let remedy = "write `bind-dn = \"uid=%u,ou=people,dc=example,dc=com\"`, or `base = …` to search";
            self.mistake("auth.backend", "[auth.ldap] says neither `bind-dn` nor `base`", remedy);
        }
        if self.sheet.text("auth.ldap.bind-dn").is_some_and(|name| !name.contains('%')) {
            let remedy = "put %u into it where the user's name stands";
            self.mistake("auth.ldap.bind-dn", "`auth.ldap.bind-dn` is the same for every user", remedy);
        }
        if self.sheet.text("auth.ldap.search-dn").is_some() != self.sheet.path("auth.ldap.search-password").is_some() {
            let remedy = "give both, or neither to search as nobody";
            self.mistake("auth.ldap.search-dn", "`search-dn` and `search-password` belong together", remedy);
        }
    }

    fn tokens(&mut self) {
        let jwks = self.sheet.path("auth.token.jwks").is_some();
        let asking = self.sheet.text("auth.token.introspection-url").is_some();
        if (jwks || asking) && self.sheet.word("auth.backend") == Some("dovecot") {
            let remedy = "remove [auth.token] and set up oauth2 in Dovecot";
            self.mistake("auth.backend", "Dovecot checks tokens itself", remedy);
        }
        if jwks && asking {
            let remedy = "keep one of them";
            self.mistake("auth.token.jwks", "[auth.token] has both `jwks` and `introspection-url`", remedy);
        }
        if jwks && self.sheet.text("auth.token.issuer").is_none() {
            let remedy = "write `issuer = …` as it stands in the tokens: keys may be shared by many sites";
            self.mistake("auth.token.jwks", "`auth.token.issuer` is missing", remedy);
        }
        if jwks && self.sheet.texts("auth.token.audience").is_none_or(|names| names.is_empty()) {
            let remedy = "write `audience = …`: without it a token that was given for another service logs in here";
            self.mistake("auth.token.jwks", "`auth.token.audience` is missing", remedy);
        }
        let client = self.sheet.text("auth.token.introspection-client").is_some();
        if client != self.sheet.path("auth.token.introspection-secret").is_some() {
            let remedy = "give both, or neither";
            self.mistake(
                "auth.token.introspection-client",
                "`introspection-client` and `introspection-secret` belong together",
                remedy,
            );
        }
        if self.sheet.text("auth.token.introspection-url").is_some_and(|url| !url.starts_with("http")) {
            let remedy = "write https://HOST/PATH";
            self.mistake("auth.token.introspection-url", "`auth.token.introspection-url` is no address", remedy);
        }
    }

    /// Every mechanism has somebody who can carry it out.
    fn mechanisms(&mut self) {
        let backend = self.sheet.word("auth.backend").unwrap_or("file");
        let names: Vec<String> =
            self.sheet.texts("auth.mechanisms").unwrap_or_default().into_iter().map(str::to_string).collect();
        for name in names {
            let (possible, remedy) = match name.as_str() {
                _ if backend == "dovecot" && name != "EXTERNAL" => (true, ""),
                name if FOREIGN.contains(&name) => (false, "take it off, or set auth.backend to dovecot"),
                "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS" => {
                    (backend == "file", "take it off: this back end never shows what SCRAM needs")
                }
                "OAUTHBEARER" | "XOAUTH2" => {
                    (has_tokens(self.sheet), "set `jwks` or `introspection-url` in [auth.token]")
                }
                "EXTERNAL" => (
                    self.asks_for_certificates(),
                    "set client-certificate = \"ask\" and client-authorities or client-fingerprints at a listener",
                ),
                _ => (true, ""),
            };
            if !possible {
                self.mistake("auth.mechanisms", format!("nobody here can carry out {name}"), remedy);
            }
        }
    }

    fn asks_for_certificates(&self) -> bool {
        self.sheet.names("listener").iter().any(|(name, _)| believes(self.sheet, name))
    }

    fn certificates(&mut self) {
        for (name, _) in self.sheet.names("listener").to_vec() {
            let at = |leaf: &str| format!("listener.{name}.{leaf}");
            let wanted = self.sheet.word(&at("client-certificate"));
            let listed = lists(self.sheet, &name);
            if listed && wanted == Some("none") {
                let problem = format!("[listener.{name}] says whose certificates it believes, but asks for none");
                self.mistake(&at("client-certificate"), problem, "set client-certificate to ask or require");
            }
            if wanted == Some("require") && !listed {
                self.notes.push(format!(
                    "listener.{name}.client-certificate = \"require\" without client-authorities or client-fingerprints: any certificate will do"
                ));
            }
            for text in self.sheet.texts(&at("client-fingerprints")).unwrap_or_default() {
                if !is_fingerprint(text) {
                    let problem = format!("`{text}` is no SHA-256 fingerprint");
                    self.mistakes.push(Mistake::new(self.sheet.place(&at("client-fingerprints")), problem, SHOW));
                }
            }
        }
        let wrong: Vec<(String, Place)> = self
            .sheet
            .map("auth.certificate.names")
            .into_iter()
            .filter(|(print, ..)| !is_fingerprint(print))
            .map(|(print, _, place)| (print.to_string(), place.clone()))
            .collect();
        for (print, place) in wrong {
            self.mistakes.push(Mistake::new(place, format!("`{print}` is no SHA-256 fingerprint"), SHOW));
        }
    }
}

const SHOW: &str = "`openssl x509 -noout -fingerprint -sha256 -in FILE` shows it";

/// 32 octets in hex, with or without colons.
fn is_fingerprint(text: &str) -> bool {
    let hex = text.replace(':', "");
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn lists(sheet: &Sheet, listener: &str) -> bool {
    let authorities = sheet.paths(&format!("listener.{listener}.client-authorities"));
    let fingerprints = sheet.texts(&format!("listener.{listener}.client-fingerprints"));
    authorities.is_some_and(|list| !list.is_empty()) || fingerprints.is_some_and(|list| !list.is_empty())
}

fn believes(sheet: &Sheet, listener: &str) -> bool {
    lists(sheet, listener) && sheet.word(&format!("listener.{listener}.client-certificate")) != Some("none")
}

fn has_tokens(sheet: &Sheet) -> bool {
    sheet.path("auth.token.jwks").is_some() || sheet.text("auth.token.introspection-url").is_some()
}

const CHECKED: &str = "a sheet without mistakes holds every value that has a default";

/// `[auth]` of a sheet without mistakes.
pub(crate) fn build(s: &Sheet) -> Auth {
    let word = |path: &str| s.word(path).expect(CHECKED);
    let path = |path: &str| s.path(path).expect(CHECKED).to_path_buf();
    Auth {
        backend: match word("auth.backend") {
            "dovecot" => AuthBackend::Dovecot(path("auth.dovecot-socket")),
            "saslauthd" => AuthBackend::Saslauthd(path("auth.saslauthd-socket")),
            "ldap" => AuthBackend::Ldap(build_ldap(s)),
            _ => AuthBackend::File,
        },
        service: s.text("auth.service").expect(CHECKED).to_string(),
        timeout: s.span("auth.timeout").expect(CHECKED),
        mechanisms: s.texts("auth.mechanisms").map(|names| names.into_iter().map(str::to_string).collect()),
        senders: owned(s.map("auth.senders")),
        tokens: has_tokens(s).then(|| build_tokens(s)),
        certificates: CertificateUsers {
            by_email: s.texts("auth.certificate.user").expect(CHECKED).contains(&"email"),
            by_common_name: s.texts("auth.certificate.user").expect(CHECKED).contains(&"common-name"),
            names: owned(s.map("auth.certificate.names"))
                .into_iter()
                .filter_map(|(print, mut names)| Some((print.replace(':', "").to_lowercase(), names.pop()?)))
                .collect(),
        },
        external: s.names("listener").iter().any(|(name, _)| believes(s, name)),
    }
}

fn owned(map: Vec<(&str, Vec<&str>, &Place)>) -> Vec<(String, Vec<String>)> {
    map.into_iter()
        .map(|(key, values, _)| (key.to_string(), values.into_iter().map(str::to_string).collect()))
        .collect()
}

fn file(s: &Sheet, path: &str) -> Option<PathBuf> {
    s.path(path).map(Path::to_path_buf)
}

fn text(s: &Sheet, path: &str) -> Option<String> {
    s.text(path).map(str::to_string)
}

fn build_ldap(s: &Sheet) -> Ldap {
    Ldap {
        url: text(s, "auth.ldap.url").expect(CHECKED),
        start_tls: s.flag("auth.ldap.start-tls").expect(CHECKED),
        ca_file: file(s, "auth.ldap.ca-file"),
        bind_dn: text(s, "auth.ldap.bind-dn"),
        search: LdapSearch {
            base: text(s, "auth.ldap.base").unwrap_or_default(),
            filter: text(s, "auth.ldap.filter").expect(CHECKED),
            bind: text(s, "auth.ldap.search-dn").zip(file(s, "auth.ldap.search-password")),
            user: text(s, "auth.ldap.user-attribute"),
        },
    }
}

fn build_tokens(s: &Sheet) -> Tokens {
    let texts = |path: &str| s.texts(path).expect(CHECKED).into_iter().map(str::to_string).collect();
    Tokens {
        jwks: file(s, "auth.token.jwks"),
        algorithms: texts("auth.token.algorithms"),
        introspection: text(s, "auth.token.introspection-url"),
        client: text(s, "auth.token.introspection-client").zip(file(s, "auth.token.introspection-secret")),
        ca_file: file(s, "auth.token.ca-file"),
        issuer: text(s, "auth.token.issuer"),
        audience: texts("auth.token.audience"),
        scope: text(s, "auth.token.scope"),
        user_claim: text(s, "auth.token.user-claim").expect(CHECKED),
    }
}
