//! Tables in the roles that they play in routing: asked in order, for a whole address first and then for its parts.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use waypost_types::port::{Table, TableError};
use waypost_types::{Address, Domain};

/// Tables of one role, in order.
#[derive(Clone, Default)]
pub struct Lists(Vec<Arc<dyn Table>>);

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tables", self.0.len())
    }
}

impl From<Vec<Arc<dyn Table>>> for Lists {
    fn from(tables: Vec<Arc<dyn Table>>) -> Lists {
        Lists(tables)
    }
}

impl Lists {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every answer is there at once.
    pub fn is_in_memory(&self) -> bool {
        self.0.iter().all(|table| table.is_in_memory())
    }

    /// What the first table that has the key says.
    pub async fn whole<'a>(&'a self, key: &'a str) -> Result<Option<Cow<'a, str>>, TableError> {
        for table in &self.0 {
            if let Some(value) = table.lookup(key).get().await? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The same for a part of what is meant, such as the domain of an address: patterns are not asked.
    pub async fn part<'a>(&'a self, key: &'a str) -> Result<Option<Cow<'a, str>>, TableError> {
        for table in self.0.iter().filter(|table| table.takes_parts()) {
            if let Some(value) = table.lookup(key).get().await? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// By domain: the name itself, then `.parent` of each parent, as Postfix does.
    pub async fn domain(&self, domain: &Domain) -> Result<Option<String>, TableError> {
        if self.is_empty() {
            return Ok(None);
        }
        if let Some(value) = self.whole(domain.as_str()).await? {
            return Ok(Some(value.into_owned()));
        }
        self.parents(domain).await
    }

    /// The parents alone.
    pub async fn parents(&self, domain: &Domain) -> Result<Option<String>, TableError> {
        let mut name = domain.as_str();
        while let Some(at) = name.find('.') {
            if let Some(value) = self.part(&name[at..]).await? {
                return Ok(Some(value.into_owned()));
            }
            name = &name[at + 1..];
        }
        Ok(None)
    }

    /// By address: `user@domain`, then `user@domain` without its extension.
    pub async fn address(&self, address: &Address, plain: Option<&str>) -> Result<Option<String>, TableError> {
        if self.is_empty() {
            return Ok(None);
        }
        if let Some(value) = self.whole(&address.to_string()).await? {
            return Ok(Some(value.into_owned()));
        }
        let Some(plain) = plain else { return Ok(None) };
        Ok(self.part(&format!("{plain}@{}", address.host())).await?.map(Cow::into_owned))
    }
}
