//! Logins by the names that people use: `alice` and `alice@example.com` are one user where `example.com` is ours.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use waypost_server::{AuthError, Authenticator, PasswordFile};
use waypost_types::verdict::Credentials;
use waypost_types::{Domain, Task};

/// The password file, asked by mailbox name.
pub(crate) struct Logins {
    file: PasswordFile,
    own: ArcSwap<HashSet<Domain>>,
}

impl Logins {
    /// Asks `file`; `own` are the domains that may stand behind a name.
    pub(crate) fn new(file: PasswordFile, own: &[Domain]) -> Logins {
        Logins { file, own: ArcSwap::from_pointee(own.iter().cloned().collect()) }
    }

    /// Reads the file again and takes other domains.
    pub(crate) fn reload(
        &self,
        own: &[Domain],
    ) -> Result<(), waypost_server::credential::password_file::PasswordFileError> {
        self.file.reload()?;
        self.own.store(Arc::new(own.iter().cloned().collect()));
        Ok(())
    }

    fn name<'a>(&self, identity: &'a str) -> Option<&'a str> {
        let Some((name, domain)) = identity.rsplit_once('@') else { return Some(identity) };
        let domain = Domain::parse(domain).ok()?;
        self.own.load().contains(&domain).then_some(name)
    }
}

impl Authenticator for Logins {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials) -> Task<'a, Result<Option<Arc<str>>, AuthError>> {
        Box::pin(async move {
            // A foreign domain is asked for as it stands: no such user, at the same price.
            let name = self.name(&credentials.identity).unwrap_or(&credentials.identity).to_string();
            let asked =
                Credentials { mechanism: credentials.mechanism, identity: name, secret: credentials.secret.clone() };
            self.file.authenticate(&asked).await
        })
    }
}
