//! Who may log in: the back end that `[auth]` names, tokens and client certificates, behind one [`Authenticator`].
//!
//! With the password file `alice` and `alice@example.com` are one user where `example.com` is ours. Other back ends know their users
//! by the names that they give. Whoever logs in by a token or a certificate must be one of ours: a mailbox, or an
//! address in a domain of ours; a provider whose keys we trust may know the whole world.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use arc_swap::ArcSwap;
use waypost_config::Config;
use waypost_config::model::{self, AuthBackend};
use waypost_ldap::{Directory, Filter, Finding, LdapLogin, Place};
use waypost_login::token::{Claims, Introspection, IntrospectionOptions, Jwks, Tokens};
use waypost_login::{Dovecot, DovecotOptions, PasswordFile, Saslauthd};
use waypost_net::{ClientTls, ClientTlsOptions};
use waypost_types::login::{AuthError, Authenticator, Credentials, Judged, Proof, Rounds, ScramKeys};
use waypost_types::{ClientCertificate, Domain, SessionFacts, Task};

/// Everybody who may log in, swapped as a whole.
pub(crate) struct Logins {
    /// Decides what users who are not there seem to have.
    secret: Vec<u8>,
    users: ArcSwap<Users>,
}

/// What one configuration says.
pub(crate) struct Users {
    back_end: BackEnd,
    tokens: Option<Tokens>,
    certificates: model::CertificateUsers,
    own: Vec<Domain>,
    mailboxes: Vec<String>,
}

enum BackEnd {
    File(PasswordFile),
    Other(Box<dyn Authenticator>),
}

impl Logins {
    /// Opens what the configuration names. `secret` is the site's (see [`PasswordFile::open`]).
    pub(crate) fn open(config: &Config, secret: &[u8]) -> Result<Logins> {
        let users = Users::open(config, secret, None)?;
        Ok(Logins { secret: secret.to_vec(), users: ArcSwap::from_pointee(users) })
    }

    /// What another configuration says, to be [`put`](Logins::put) in force once everything else is right. The same password file keeps
    /// what it remembers of good logins.
    pub(crate) fn renewed(&self, config: &Config) -> Result<Users> {
        Users::open(config, &self.secret, Some(&self.users.load()))
    }

    /// Puts it in force.
    pub(crate) fn put(&self, users: Users) {
        self.users.store(Arc::new(users));
    }
}

impl Users {
    fn open(config: &Config, secret: &[u8], before: Option<&Users>) -> Result<Users> {
        Ok(Users {
            back_end: back_end(config, secret, before)?,
            tokens: config.auth.tokens.as_ref().map(|tokens| open_tokens(config, tokens)).transpose()?,
            certificates: config.auth.certificates.clone(),
            own: config.domains.own.clone(),
            mailboxes: config.users.mailboxes.clone(),
        })
    }

    fn authenticator(&self) -> &dyn Authenticator {
        match &self.back_end {
            BackEnd::File(file) => file,
            BackEnd::Other(other) => &**other,
        }
    }

    fn is_own(&self, domain: &str) -> bool {
        Domain::parse(domain).is_ok_and(|domain| self.own.contains(&domain))
    }

    /// The name by which the back end knows an identity. For the password file one at a foreign domain stays as it stands: no such
    /// user, at the same price.
    fn name<'a>(&self, identity: &'a str) -> &'a str {
        match (&self.back_end, identity.rsplit_once('@')) {
            (BackEnd::File(_), Some((name, domain))) if self.is_own(domain) => name,
            _ => identity,
        }
    }

    /// One of ours, by the name that everybody else is to know him by.
    fn known(&self, identity: &str) -> Option<Arc<str>> {
        let name = self.name(identity);
        let known = match &self.back_end {
            BackEnd::File(file) => file.user(name).or_else(|| {
                let mailbox = self.mailboxes.iter().find(|mailbox| mailbox.eq_ignore_ascii_case(name));
                mailbox.map(|mailbox| mailbox.as_str().into())
            }),
            BackEnd::Other(_) => {
                name.rsplit_once('@').is_some_and(|(_, domain)| self.is_own(domain)).then(|| Arc::from(name))
            }
        };
        known.filter(|name| !name.is_empty())
    }

    /// A token says who the user is; who the client says that it is must be the same.
    async fn by_token(&self, token: &str, identity: &str) -> Judged {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        let Some(user) = tokens.user(token).await?.and_then(|user| self.known(&user)) else { return Ok(None) };
        Ok(Some(user).filter(|user| identity.is_empty() || self.name(identity).eq_ignore_ascii_case(user)))
    }

    fn by_certificate(&self, certificate: &ClientCertificate, identity: &str) -> Option<Arc<str>> {
        let rules = &self.certificates;
        let listed = rules.names.iter().filter(|(print, _)| *print == certificate.fingerprint).map(|(_, name)| name);
        let emails = certificate.emails.iter().filter(|_| rules.by_email);
        let common = Some(&certificate.common_name).filter(|name| rules.by_common_name && !name.is_empty());
        let mut users = listed.chain(emails).chain(common).filter_map(|name| self.known(name));
        users.find(|user| identity.is_empty() || self.name(identity).eq_ignore_ascii_case(user))
    }

    async fn judge(&self, credentials: &Credentials, client: &SessionFacts) -> Judged {
        match &credentials.proof {
            Proof::Token(token) => self.by_token(token, &credentials.identity).await,
            Proof::Certificate => {
                let certificate = client.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref());
                let certificate = certificate.filter(|certificate| certificate.verified);
                Ok(certificate.and_then(|certificate| self.by_certificate(certificate, &credentials.identity)))
            }
            Proof::Password(_) | Proof::Exchanged(_) => {
                let identity = self.name(&credentials.identity).to_string();
                self.authenticator().authenticate(&Credentials { identity, ..credentials.clone() }, client).await
            }
        }
    }
}

impl Authenticator for Logins {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials, client: &'a SessionFacts) -> Task<'a, Judged> {
        Box::pin(async move { self.users.load_full().judge(credentials, client).await })
    }

    fn scram_keys<'a>(&'a self, identity: &'a str) -> Task<'a, Result<ScramKeys, AuthError>> {
        Box::pin(async move {
            let users = self.users.load_full();
            users.authenticator().scram_keys(users.name(identity)).await
        })
    }

    fn begin(&self, mechanism: &'static str, client: &Arc<SessionFacts>) -> Result<Box<dyn Rounds>, AuthError> {
        self.users.load().authenticator().begin(mechanism, client)
    }
}

fn back_end(config: &Config, secret: &[u8], before: Option<&Users>) -> Result<BackEnd> {
    let model::Auth { service, timeout, .. } = &config.auth;
    let other: Box<dyn Authenticator> = match &config.auth.backend {
        AuthBackend::File => {
            let path = &config.users.file;
            return Ok(BackEnd::File(match before.map(|before| &before.back_end) {
                Some(BackEnd::File(file)) if file.path() == path => file.renewed()?,
                _ => PasswordFile::open(path, secret)?,
            }));
        }
        AuthBackend::Dovecot(socket) => Box::new(Dovecot::new(DovecotOptions {
            socket: socket.clone(),
            service: service.clone(),
            timeout: *timeout,
        })),
        AuthBackend::Saslauthd(socket) => {
            Box::new(Saslauthd { socket: socket.clone(), service: service.clone(), timeout: *timeout })
        }
        AuthBackend::Ldap(ldap) => Box::new(open_ldap(config, ldap)?),
    };
    Ok(BackEnd::Other(other))
}

fn open_ldap(config: &Config, ldap: &model::Ldap) -> Result<LdapLogin> {
    let directory =
        directory(&ldap.url, ldap.start_tls, ldap.ca_file.as_ref(), ["auth.ldap.url", "auth.ldap.ca-file"])?;
    let search = &ldap.search;
    let finding = match &ldap.bind_dn {
        Some(template) => Finding::Template(template.clone()),
        None => Finding::Search {
            base: search.base.clone(),
            filter: Filter::parse(&search.filter).ok_or_else(|| {
                anyhow!("auth.ldap.filter: {} is no filter: write it as RFC 4515 says, (uid=%u)", search.filter)
            })?,
            bind: match &search.bind {
                Some((name, file)) => Some((name.clone(), secret_line(file, "auth.ldap.search-password")?)),
                None => None,
            },
            user: search.user.clone(),
        },
    };
    Ok(LdapLogin { directory, finding, timeout: config.auth.timeout })
}

/// A directory at an address, and whom TLS trusts there; the error names the setting.
pub(crate) fn directory(
    url: &str,
    start_tls: bool,
    ca_file: Option<&std::path::PathBuf>,
    [its, cas]: [&str; 2],
) -> Result<Directory> {
    let place = Place::parse(url, start_tls).ok_or_else(|| {
        anyhow!("{its}: {url} is no address of a directory: write ldaps://HOST, ldap://HOST:PORT or ldapi://%2Fpath")
    })?;
    Ok(Directory { place, tls: client_tls(ca_file).with_context(|| cas.to_string())? })
}

fn open_tokens(config: &Config, tokens: &model::Tokens) -> Result<Tokens> {
    let claims = Claims {
        issuer: tokens.issuer.clone(),
        audiences: tokens.audience.clone(),
        user: tokens.user_claim.clone(),
        scope: tokens.scope.clone(),
    };
    if let Some(path) = &tokens.jwks {
        return Ok(Tokens::Jwks(Jwks::open(path, &tokens.algorithms).context("auth.token.jwks")?, claims));
    }
    let client = match &tokens.client {
        Some((name, file)) => Some((name.clone(), secret_line(file, "auth.token.introspection-secret")?)),
        None => None,
    };
    let url = tokens.introspection.clone().context("auth.token: neither `jwks` nor `introspection-url`")?;
    let options = IntrospectionOptions { url, client, timeout: config.auth.timeout };
    let tls = client_tls(tokens.ca_file.as_ref()).context("auth.token.ca-file")?;
    let server = Introspection::new(options, tls).map_err(|error| anyhow!("auth.token.introspection-url: {error}"))?;
    Ok(Tokens::Introspection(server, claims))
}

fn client_tls(extra_roots: Option<&std::path::PathBuf>) -> Result<ClientTls> {
    Ok(ClientTls::new(ClientTlsOptions { extra_roots: extra_roots.cloned(), ..ClientTlsOptions::default() })?)
}

/// A file's only line.
fn secret_line(path: &std::path::Path, setting: &str) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{setting}: {}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

/// The senders that logins may use beyond their own, as `[auth.senders]` says; logins in lower case.
pub(crate) fn extra_senders(config: &Config) -> HashMap<Box<str>, Vec<Box<str>>> {
    let fold = |text: &String| text.to_lowercase().into_boxed_str();
    let rows = config.auth.senders.iter();
    rows.map(|(login, senders)| (fold(login), senders.iter().map(fold).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_login::hash;

    fn credentials(identity: &str, secret: &str) -> Credentials {
        Credentials { mechanism: "PLAIN", identity: identity.into(), proof: Proof::Password(secret.into()) }
    }

    fn config(folder: &std::path::Path) -> Config {
        let text = format!(
            "hostname = \"mx.own.test\"\ndata = \"{}\"\n[domains]\nown = \"own.test\"\n[users]\nfile = \"users\"\n\
             [listener.mx]\npreset = \"mx\"\nbind = \"127.0.0.1:1\"\n[auth.certificate]\nuser = [\"email\", \"common-name\"]\n",
            folder.display()
        );
        let file = folder.join("waypost.toml");
        std::fs::write(&file, text).expect("written");
        waypost_config::load(&waypost_config::Source::File(file), &[], &waypost_config::Surroundings::default())
            .expect("no mistakes")
    }

    async fn judge(logins: &Logins, shown: &Credentials, client: &SessionFacts) -> Option<Arc<str>> {
        logins.authenticate(shown, client).await.expect("an answer")
    }

    #[tokio::test]
    async fn a_user_logs_in_by_name_or_address_and_nobody_at_a_foreign_domain() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users");
        std::fs::write(&path, format!("alice:{}\n", hash::make("secret123"))).expect("written");
        let config = config(folder.path());
        let (logins, nobody) = (Logins::open(&config, b"secret").expect("readable"), SessionFacts::nobody());
        for (identity, secret, good) in [
            ("alice", "secret123", true),
            ("alice@OWN.test", "secret123", true),
            ("alice@other.test", "secret123", false),
            ("alice", "wrong", false),
            ("bob", "secret123", false),
        ] {
            let user = judge(&logins, &credentials(identity, secret), &nobody).await;
            assert_eq!(user.is_some(), good, "{identity} {secret}");
        }
        assert_eq!(logins.scram_keys("bob").await, logins.scram_keys("bob@own.test").await);
        std::fs::write(&path, format!("alice:{}\n", hash::make("changed12"))).expect("written");
        logins.put(logins.renewed(&config).expect("readable"));
        assert!(judge(&logins, &credentials("alice", "secret123"), &nobody).await.is_none());
        std::fs::remove_file(&path).expect("removed");
        assert!(logins.renewed(&config).is_err());
        assert!(judge(&logins, &credentials("alice", "changed12"), &nobody).await.is_some());
    }

    #[tokio::test]
    async fn a_certificate_names_one_of_ours_or_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("users"), format!("alice:{}\n", hash::make("secret123"))).expect("written");
        let logins = Logins::open(&config(folder.path()), b"secret").expect("readable");
        let client = |emails: &[&str], common_name: &str, verified| {
            let certificate = ClientCertificate {
                fingerprint: "00".into(),
                verified,
                common_name: common_name.into(),
                emails: emails.iter().map(ToString::to_string).collect(),
                names: Vec::new(),
            };
            let tls = waypost_types::TlsFacts {
                version: "TLSv1.3",
                cipher: String::new(),
                server_name: None,
                client_certificate: Some(Arc::new(certificate)),
                exporter: None,
                resumed: false,
            };
            SessionFacts { tls: Some(Arc::new(tls)), ..SessionFacts::nobody() }
        };
        let ask = async |identity: &str, client: SessionFacts| {
            let shown = Credentials { mechanism: "EXTERNAL", identity: identity.into(), proof: Proof::Certificate };
            judge(&logins, &shown, &client).await
        };
        assert_eq!(ask("", client(&["alice@own.test"], "", true)).await.as_deref(), Some("alice"));
        assert_eq!(ask("alice@own.test", client(&["x@y.test"], "alice", true)).await.as_deref(), Some("alice"));
        assert_eq!(
            ask("", client(&["alice@own.test"], "", false)).await,
            None,
            "an unverified certificate says nothing"
        );
        assert_eq!(ask("bob", client(&["alice@own.test"], "", true)).await, None);
        assert_eq!(ask("", client(&["alice@other.test", "bob@own.test"], "", true)).await, None);
        assert_eq!(ask("alice", SessionFacts::nobody()).await, None);
    }
}
