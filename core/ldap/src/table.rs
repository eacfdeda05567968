//! A table in a directory, as Postfix's `ldap_table`: a key is searched for, and the values of one attribute of all entries found, joined by
//! commas, are what it leads to.
//!
//! A question takes a kept connection or makes one; a kept one that turns out to be dead is replaced once, within the same deadline. A
//! directory that says no, or nothing in time, is an error and never "no such key".

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use waypost_types::Soon;
use waypost_types::port::{Found, Table, TableError};

use crate::filter::Filter;
use crate::line::{Line, Trouble};
use crate::place::Directory;
use crate::template::fill_name;

/// Connections that are kept.
const KEPT_MAX: usize = 16;
/// Entries of one answer; more are an error, for a row that is cut short would lose mail.
const ENTRIES_MAX: u32 = 100;
/// Octets of one value.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Where to ask, and what.
#[derive(Clone)]
pub struct LdapTableOptions {
    /// The directory.
    pub directory: Directory,
    /// Below which entry; `%s`, `%u` and `%d` are the key, its local part and its domain.
    pub base: String,
    /// What must be true of an entry; the same places are filled with the key.
    pub filter: Filter,
    /// The attribute whose values are the answer.
    pub attribute: String,
    /// Who asks, and the password; nobody if `None`.
    pub bind: Option<(String, String)>,
    /// For one question, connecting included.
    pub timeout: Duration,
}

/// The table.
pub struct LdapTable {
    name: String,
    options: LdapTableOptions,
    idle: Mutex<Vec<Line>>,
}

impl std::fmt::Debug for LdapTable {
    /// Never shows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LdapTable({} {})", self.name, self.options.directory.place)
    }
}

impl LdapTable {
    /// A table; asks nothing yet.
    pub fn new(name: &str, options: LdapTableOptions) -> LdapTable {
        LdapTable { name: name.to_string(), options, idle: Mutex::default() }
    }

    async fn ask(&self, key: &str) -> Result<Option<String>, Trouble> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(line) = kept
            && let Ok(answer) = self.search(line, key).await
        {
            // What failed may be the connection, which a directory closes when it was idle for long: the next one tells.
            return Ok(answer);
        }
        self.search(self.connect().await?, key).await
    }

    async fn connect(&self) -> Result<Line, Trouble> {
        let mut line = self.options.directory.connect().await?;
        if let Some((name, password)) = &self.options.bind
            && !line.bind(name, password).await?
        {
            return Err(Trouble(format!("{name} cannot log in: correct `user` and `password-file`")));
        }
        Ok(line)
    }

    async fn search(&self, mut line: Line, key: &str) -> Result<Option<String>, Trouble> {
        let LdapTableOptions { base, filter, attribute, .. } = &self.options;
        let base = if base.contains('%') { Cow::Owned(fill_name(base, key)) } else { Cow::Borrowed(base.as_str()) };
        let found = line.search(&base, filter, key, Some(attribute), ENTRIES_MAX + 1).await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT_MAX {
            idle.push(line);
        }
        if found.len() > ENTRIES_MAX as usize {
            return Err(Trouble(format!("more than {ENTRIES_MAX} entries for {key}: make the filter narrower")));
        }
        let values: Vec<String> = found.into_iter().flat_map(|entry| entry.values).collect();
        let value = values.join(", ");
        if value.len() > VALUE_BYTES_MAX {
            return Err(Trouble(format!("a value of {} octets for {key} is too large", value.len())));
        }
        // An entry without the attribute is as good as none.
        Ok((!value.is_empty()).then_some(value))
    }
}

impl Table for LdapTable {
    fn lookup<'a>(&'a self, key: &'a str) -> Soon<'a, Found<'a>> {
        Soon::Later(Box::pin(async move {
            let failed =
                |why: &str| TableError(format!("table {}: {}: {why}", self.name, self.options.directory.place));
            match tokio::time::timeout(self.options.timeout, self.ask(key)).await {
                Ok(Ok(value)) => Ok(value.map(Cow::Owned)),
                Ok(Err(Trouble(why))) => Err(failed(&why)),
                Err(_) => Err(failed("no answer in time")),
            }
        }))
    }
}
