//! Logins by the names that people use: `alice` and `alice@example.com` are one user where `example.com` is ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use waypost_server::{AuthError, Authenticator, PasswordFile};
use waypost_types::verdict::Credentials;
use waypost_types::{Domain, Task};

/// The password file, asked by mailbox name.
pub(crate) struct Logins {
    users: ArcSwap<Users>,
}

/// A password file and the domains at which its names live.
struct Users {
    path: PathBuf,
    file: Arc<PasswordFile>,
    own: Vec<Domain>,
}

impl Logins {
    /// Asks `file`, which was read from `path`; `own` are the domains that may stand behind a name.
    pub(crate) fn new(file: PasswordFile, path: &Path, own: &[Domain]) -> Logins {
        let users = Users { path: path.to_path_buf(), file: Arc::new(file), own: own.to_vec() };
        Logins { users: ArcSwap::from_pointee(users) }
    }

    /// Whether a reload from this file will go well.
    pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
        PasswordFile::open(path)?;
        Ok(())
    }

    /// Reads the file again, or another one, and takes other domains. On an error everything stays as it was.
    pub(crate) fn reload(&self, path: &Path, own: &[Domain]) -> anyhow::Result<()> {
        let before = self.users.load();
        let file = if before.path == path {
            // The same file keeps what it remembers of good logins.
            before.file.reload()?;
            before.file.clone()
        } else {
            Arc::new(PasswordFile::open(path)?)
        };
        self.users.store(Arc::new(Users { path: path.to_path_buf(), file, own: own.to_vec() }));
        Ok(())
    }
}

impl Users {
    fn name<'a>(&self, identity: &'a str) -> Option<&'a str> {
        let Some((name, domain)) = identity.rsplit_once('@') else { return Some(identity) };
        let domain = Domain::parse(domain).ok()?;
        self.own.contains(&domain).then_some(name)
    }
}

impl Authenticator for Logins {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials) -> Task<'a, Result<Option<Arc<str>>, AuthError>> {
        Box::pin(async move {
            let users = self.users.load_full();
            // A foreign domain is asked for as it stands: no such user, at the same price.
            let name = users.name(&credentials.identity).unwrap_or(&credentials.identity).to_string();
            let asked =
                Credentials { mechanism: credentials.mechanism, identity: name, secret: credentials.secret.clone() };
            users.file.authenticate(&asked).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_server::credential::password_file::hash_password;

    fn credentials(identity: &str, secret: &str) -> Credentials {
        Credentials { mechanism: "PLAIN", identity: identity.into(), secret: Some(secret.into()) }
    }

    #[tokio::test]
    async fn a_user_logs_in_by_name_or_address_and_nobody_at_a_foreign_domain() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users");
        std::fs::write(&path, format!("alice:{}\n", hash_password("secret123"))).expect("written");
        let own = [Domain::parse("own.test").expect("a domain")];
        let logins = Logins::new(PasswordFile::open(&path).expect("readable"), &path, &own);
        for (identity, secret, good) in [
            ("alice", "secret123", true),
            ("alice@OWN.test", "secret123", true),
            ("alice@other.test", "secret123", false),
            ("alice", "wrong", false),
            ("bob", "secret123", false),
        ] {
            let user = logins.authenticate(&credentials(identity, secret)).await.expect("an answer");
            assert_eq!(user.is_some(), good, "{identity} {secret}");
        }
        std::fs::write(&path, format!("alice:{}\n", hash_password("changed12"))).expect("written");
        logins.reload(&path, &own).expect("reloaded");
        assert!(logins.authenticate(&credentials("alice", "secret123")).await.expect("an answer").is_none());
        assert!(logins.reload(&folder.path().join("gone"), &own).is_err());
        assert!(logins.authenticate(&credentials("alice", "changed12")).await.expect("an answer").is_some());
    }
}
