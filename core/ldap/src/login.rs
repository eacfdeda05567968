//! A login is good if the directory lets its user bind with the password.
//!
//! Either the user's name makes the entry's name (`bind_dn`), or the entry is searched for first, as another user or as nobody; exactly
//! one entry must be found. What a client says goes into names escaped (RFC 4514) and into filters as a value. An empty password is
//! refused here: to a directory it would be no login but an anonymous one, and good (RFC 4513 §5.1.2). One connection for each
//! login.

use std::time::Duration;

use waypost_types::login::{AuthError, Authenticator, Credentials, Judged, Proof};
use waypost_types::{SessionFacts, Task};

use crate::filter::Filter;
use crate::line::{Line, Trouble};
use crate::place::Directory;
use crate::template::fill_name;

/// How an entry is found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// Its name is this with the identity in it: `uid=%u,ou=people,dc=example,dc=com`.
    Template(String),
    /// It is searched for.
    Search {
        /// Below this entry.
        base: String,
        /// With this filter.
        filter: Filter,
        /// As this user, with this password; as nobody without.
        bind: Option<(String, String)>,
        /// The attribute that is the user's name from then on; without it the identity is.
        user: Option<String>,
    },
}

/// A directory whose users log in.
#[derive(Clone)]
pub struct LdapLogin {
    /// The directory.
    pub directory: Directory,
    /// How entries are found.
    pub finding: Finding,
    /// For everything that one login needs.
    pub timeout: Duration,
}

impl LdapLogin {
    async fn check(&self, identity: &str, password: &str) -> Judged {
        if password.is_empty() {
            return Ok(None);
        }
        let checking = tokio::time::timeout(self.timeout, self.bind_as(identity, password));
        match checking.await {
            Ok(Ok(user)) => Ok(user.map(Into::into)),
            Ok(Err(Trouble(what))) => Err(self.trouble(&what)),
            Err(_) => Err(self.trouble("no answer in time")),
        }
    }

    async fn bind_as(&self, identity: &str, password: &str) -> Result<Option<String>, Trouble> {
        let mut line = self.directory.connect().await?;
        let found = match &self.finding {
            Finding::Template(template) => Some((fill_name(template, identity), identity.to_string())),
            Finding::Search { base, filter, bind, user } => {
                if let Some((name, password)) = bind {
                    line.bind(name, password).await?.then_some(()).ok_or_else(|| {
                        Trouble(format!("{name}, who searches, cannot log in: correct the name and password"))
                    })?;
                }
                one(&mut line, base, filter, user.as_deref(), identity).await?
            }
        };
        // Nobody was found: the directory is put to the same work with an entry that is not there.
        let (name, user) = match found {
            Some((name, user)) => (name, Some(user)),
            None => ("cn=nobody".to_string(), None),
        };
        let good = line.bind(&name, password).await?;
        line.unbind().await;
        Ok(user.filter(|_| good))
    }

    fn trouble(&self, what: &str) -> AuthError {
        AuthError::Unavailable(format!("LDAP at {}: {what}", self.directory.place))
    }
}

impl Authenticator for LdapLogin {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials, _client: &'a SessionFacts) -> Task<'a, Judged> {
        Box::pin(async move {
            match &credentials.proof {
                Proof::Password(password) => self.check(&credentials.identity, password).await,
                _ => Ok(None),
            }
        })
    }
}

/// The one entry that the filter finds, and the user's name; `None` if there is not exactly one, or if it lacks the attribute that names
/// the user.
async fn one(
    line: &mut Line,
    base: &str,
    filter: &Filter,
    user: Option<&str>,
    identity: &str,
) -> Result<Option<(String, String)>, Trouble> {
    // Two are enough to know that there is not exactly one.
    let mut found = line.search(base, filter, identity, user, 2).await?;
    let Some(entry) = found.pop().filter(|_| found.is_empty()) else { return Ok(None) };
    let name = match user {
        Some(_) => entry.values.into_iter().next(),
        None => Some(identity.to_string()),
    };
    Ok(name.map(|name| (entry.name, name)))
}
