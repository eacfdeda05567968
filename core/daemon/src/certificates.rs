//! The certificates and TLS rules of the listeners: one [`ServerTls`] for each distinct policy, renewed as a whole.
//!
//! Nothing is changed in place: [`Certificates::renewed`] reads every file anew and gives a second set, which a reload puts into force once
//! everything else has been read too. What stays the same keeps its ticket keys, so that clients resume across a reload.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use waypost_config::Config;
use waypost_config::model::{Listener, Tls, TlsMode};
use waypost_net::{CertificateFiles, ClientCertificates, ServerTls, ServerTlsOptions, TlsVersion, self_signed};

/// Every TLS policy that a listener has, each once.
#[derive(Clone)]
pub(crate) struct Certificates {
    kinds: Vec<(Tls, ServerTls)>,
    seen: Vec<Sight>,
}

/// A file as it was when it was read.
type Sight = (PathBuf, Option<(SystemTime, u64)>);

impl Certificates {
    /// Reads all files; fails on the first that is not right.
    pub(crate) fn open(config: &Config) -> Result<Certificates> {
        Certificates::build(config, None)
    }

    /// The same for a configuration that may have changed, from the files as they are now. This one stays as it is.
    pub(crate) fn renewed(&self, config: &Config) -> Result<Certificates> {
        Certificates::build(config, Some(self))
    }

    fn build(config: &Config, before: Option<&Certificates>) -> Result<Certificates> {
        let mut kinds: Vec<(Tls, ServerTls)> = Vec::new();
        let mut seen = Vec::new();
        for listener in config.listeners.iter().filter(|listener| listener.tls != TlsMode::None) {
            if kinds.iter().any(|(tls, _)| *tls == listener.tls_policy) {
                continue;
            }
            let options = options(config, &listener.tls_policy)?;
            // Looked at before they are read: a file that changes in between is read once more, not missed.
            seen.extend(options.certificates.iter().flat_map(|pair| [sight(&pair.chain), sight(&pair.key)]));
            seen.extend(options.client_authorities.iter().map(|path| sight(path)));
            let known = before.and_then(|before| before.kinds.iter().find(|(_, tls)| *tls.options() == options));
            let tls = match known {
                Some((_, tls)) => tls.renewed(),
                None => ServerTls::new(options),
            };
            let tls = tls.with_context(|| format!("TLS of listener {}", listener.name))?;
            kinds.push((listener.tls_policy.clone(), tls));
        }
        Ok(Certificates { kinds, seen })
    }

    /// A listener's; none if it offers no TLS.
    pub(crate) fn of(&self, listener: &Listener) -> Option<ServerTls> {
        let found = self.kinds.iter().find(|(tls, _)| *tls == listener.tls_policy);
        found.filter(|_| listener.tls != TlsMode::None).map(|(_, tls)| tls.clone())
    }

    /// Whether a file is not what it was when it was read: a certificate has been renewed.
    pub(crate) fn are_stale(&self) -> bool {
        self.seen.iter().any(|(path, then)| sight(path).1 != *then)
    }
}

fn sight(path: &std::path::Path) -> Sight {
    let now = fs::metadata(path).and_then(|data| Ok((data.modified()?, data.len())));
    (path.to_path_buf(), now.ok())
}

fn options(config: &Config, tls: &Tls) -> Result<ServerTlsOptions> {
    let given = tls.pairs.iter().map(|(chain, key)| CertificateFiles { chain: chain.clone(), key: key.clone() });
    let mut certificates: Vec<_> = given.collect();
    if certificates.is_empty() {
        let names = [config.hostname.as_str().to_string(), "localhost".to_string()];
        certificates.push(self_signed(&config.data.join("tls"), &names)?);
    }
    Ok(ServerTlsOptions {
        certificates,
        version_min: if tls.only_1_3 { TlsVersion::V1_3 } else { TlsVersion::V1_2 },
        cipher_suites: tls.ciphers.clone(),
        alpn: tls.alpn.clone(),
        tickets: tls.tickets,
        client_certificates: match tls.client_certificate {
            "ask" => ClientCertificates::Ask,
            "require" => ClientCertificates::Require,
            _ => ClientCertificates::None,
        },
        client_authorities: tls.client_authorities.clone(),
        client_fingerprints: tls.client_fingerprints.clone(),
        ..ServerTlsOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &std::path::Path, more: &str) -> Config {
        let text = format!(
            "hostname = \"mx.own.test\"\ndata = \"{}\"\n[listener.mx]\npreset = \"mx\"\nbind = \"127.0.0.1:1\"\n[listener.s]\npreset = \"submission\"\nbind = \"127.0.0.1:2\"\n{more}",
            folder.display()
        );
        let file = folder.join("waypost.toml");
        fs::write(&file, text).expect("written");
        waypost_config::load(&waypost_config::Source::File(file), &[], &waypost_config::Surroundings::default())
            .expect("no mistakes")
    }

    #[test]
    fn policies_are_shared_files_are_watched_and_nothing_changes_in_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let plain = config(folder.path(), "");
        let certificates = Certificates::open(&plain).expect("self-signed");
        assert_eq!(certificates.kinds.len(), 1, "two ports with one policy share it");
        assert!(!certificates.are_stale());
        let strict = config(folder.path(), "tls-version-min = \"1.3\"\n");
        let two = certificates.renewed(&strict).expect("usable");
        assert_eq!(two.kinds.len(), 2);
        let chain = folder.path().join("tls/self-signed.crt");
        fs::write(&chain, "no certificate").expect("written");
        assert!(certificates.are_stale());
        assert!(certificates.renewed(&plain).is_err());
        assert!(certificates.of(&plain.listeners[0]).is_some(), "the old one goes on");
    }
}
