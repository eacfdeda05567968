//! `[table.*]`: what kind each is, what it needs, and, for those that are files of ours to read, what stands in them.
//!
//! A table in memory is read here, so that its mistakes are told with the others, each with file and line, and so that a reload that finds
//! any leaves everything as it was.

use std::path::Path;

use waypost_route::{CidrTable, Dialect, RegexpTable, TextTable};

use crate::mistake::{Mistake, Place, nearest};
use crate::model::{LdapTable, MemoryTable, Table, TableSource};
use crate::sheet::Sheet;
use crate::value::plain_error;

/// Octets of a file that is read into memory.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Reads every table.
pub(crate) fn tables(sheet: &Sheet, mistakes: &mut Vec<Mistake>) -> Vec<Table> {
    let names = sheet.names("table").iter();
    names
        .filter_map(|(name, place)| {
            let mut one = One { sheet, name, place, mistakes };
            let source = one.source()?;
            Some(Table { name: name.clone(), source })
        })
        .collect()
}

/// The tables that a setting names; what is not there is a mistake.
pub(crate) fn named(sheet: &Sheet, path: &str, mistakes: &mut Vec<Mistake>) -> Vec<String> {
    let known: Vec<&str> = sheet.names("table").iter().map(|(name, _)| name.as_str()).collect();
    let names = sheet.texts(path).unwrap_or_default();
    for name in names.iter().filter(|name| !known.contains(name)) {
        mistakes.push(unknown(sheet.place(path), path, name, &known));
    }
    names.into_iter().map(str::to_string).collect()
}

pub(crate) fn unknown(place: Place, path: &str, name: &str, known: &[&str]) -> Mistake {
    let remedy = match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`? Otherwise add a section [table.{name}]"),
        None => format!("add a section [table.{name}]"),
    };
    Mistake::new(place, format!("`{path}` names the table {name}, but there is no [table.{name}]"), remedy)
}

struct One<'a> {
    sheet: &'a Sheet,
    name: &'a str,
    place: &'a Place,
    mistakes: &'a mut Vec<Mistake>,
}

impl One<'_> {
    fn at(&self, leaf: &str) -> String {
        format!("table.{}.{leaf}", self.name)
    }

    fn text(&self, leaf: &str) -> Option<String> {
        self.sheet.text(&self.at(leaf)).map(str::to_string)
    }

    fn source(&mut self) -> Option<TableSource> {
        let kind = self.sheet.word(&self.at("kind"))?;
        self.misplaced(kind);
        match kind {
            "inline" => self.inline(),
            "sqlite" => Some(TableSource::Sqlite {
                file: self.file(kind)?,
                query: self.needed("query", kind)?,
                timeout: self.sheet.span(&self.at("timeout"))?,
            }),
            "redis" => Some(TableSource::Redis {
                server: self.needed("server", kind)?,
                user: self.text("user"),
                password: self.secret()?,
                database: self.sheet.number(&self.at("database"))?,
                prefix: self.text("prefix").unwrap_or_default(),
                timeout: self.sheet.span(&self.at("timeout"))?,
            }),
            "ldap" => self.ldap(kind),
            kind => {
                let file = self.file(kind)?;
                self.read(kind, &file)
            }
        }
    }

    fn ldap(&mut self, kind: &str) -> Option<TableSource> {
        let needed = ["server", "base", "query", "attribute"].map(|leaf| self.needed(leaf, kind));
        let [Some(url), Some(base), Some(filter), Some(attribute)] = needed else { return None };
        if !["ldap://", "ldaps://", "ldapi://"].iter().any(|scheme| url.starts_with(scheme)) {
            let path = self.at("server");
            let problem = format!("`{path}` cannot be \"{url}\"");
            let remedy = "write ldaps://HOST, ldap://HOST:PORT or ldapi://%2Fpath%2Fto%2Fsocket";
            self.mistakes.push(Mistake::new(self.sheet.place(&path), problem, remedy));
            return None;
        }
        let bind = match (self.text("user"), self.secret()?) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => {
                let remedy = "set both for an entry that asks, or neither to ask as nobody";
                let problem = format!("`{}` and `{}` belong together", self.at("user"), self.at("password-file"));
                self.mistakes.push(Mistake::new(self.place.clone(), problem, remedy));
                return None;
            }
        };
        Some(TableSource::Ldap(LdapTable {
            url,
            start_tls: self.sheet.flag(&self.at("start-tls"))?,
            ca_file: self.sheet.path(&self.at("ca-file")).map(Path::to_path_buf),
            base,
            filter,
            attribute,
            bind,
            timeout: self.sheet.span(&self.at("timeout"))?,
        }))
    }

    /// What belongs to another kind is a slip that would otherwise go unseen.
    fn misplaced(&mut self, kind: &str) {
        let of = |leaf: &str| -> &[&str] {
            match leaf {
                "rows" => &["inline"],
                "query" => &["sqlite", "ldap"],
                "file" => &["text", "cidr", "pcre", "regexp", "sqlite"],
                "server" | "user" | "password-file" => &["redis", "ldap"],
                "database" | "prefix" => &["redis"],
                _ => &["ldap"],
            }
        };
        const LEAVES: [&str; 12] = [
            "file",
            "rows",
            "query",
            "server",
            "user",
            "password-file",
            "database",
            "prefix",
            "base",
            "attribute",
            "start-tls",
            "ca-file",
        ];
        for leaf in LEAVES {
            let path = self.at(leaf);
            if self.sheet.is_given(&path) && !of(leaf).contains(&kind) {
                let remedy = format!("set `{}` to {}, or take it out", self.at("kind"), of(leaf).join(" or "));
                let problem = format!("`{path}` means nothing for a table of kind {kind}");
                self.mistakes.push(Mistake::new(self.sheet.place(&path), problem, remedy));
            }
        }
    }

    fn needed(&mut self, leaf: &str, kind: &str) -> Option<String> {
        let found = self.text(leaf);
        if found.is_none() {
            self.lacks(leaf, kind);
        }
        found
    }

    fn file(&mut self, kind: &str) -> Option<std::path::PathBuf> {
        let found = self.sheet.path(&self.at("file")).map(Path::to_path_buf);
        if found.is_none() && !self.sheet.is_misread(&self.at("file")) {
            self.lacks("file", kind);
        }
        found
    }

    fn lacks(&mut self, leaf: &str, kind: &str) {
        let doc = crate::setting::find(&self.at(leaf)).map_or("", |setting| setting.doc);
        let problem = format!("`{}` is missing, which a table of kind {kind} needs", self.at(leaf));
        self.mistakes.push(Mistake::new(self.place.clone(), problem, format!("add `{leaf} = …`: {doc}")));
    }

    /// `Some(None)`: there is none.
    fn secret(&mut self) -> Option<Option<String>> {
        let path = self.at("password-file");
        let Some(file) = self.sheet.path(&path) else { return Some(None) };
        match std::fs::read_to_string(file) {
            Ok(text) => Some(Some(text.trim_end_matches(['\r', '\n']).to_string())),
            Err(error) => {
                let problem = format!("`{path}`: cannot read {}: {}", file.display(), plain_error(&error));
                self.mistakes.push(Mistake::new(
                    self.sheet.place(&path),
                    problem,
                    "correct the path, or its owner and mode",
                ));
                None
            }
        }
    }

    fn inline(&mut self) -> Option<TableSource> {
        let path = self.at("rows");
        let rows = self.sheet.map(&path);
        let joined: Vec<(&str, String)> = rows.iter().map(|(key, values, _)| (*key, values.join(", "))).collect();
        match TextTable::of(joined.iter().map(|(key, value)| (*key, value.as_str()))) {
            Ok(table) => Some(TableSource::Memory(MemoryTable::Text(table))),
            Err(wrong) => {
                let remedy = "write a name, an address, or a network without bits behind its prefix";
                let told = wrong.into_iter().map(|wrong| Mistake::new(self.place.clone(), wrong.text, remedy));
                self.mistakes.extend(told);
                None
            }
        }
    }

    fn read(&mut self, kind: &str, file: &Path) -> Option<TableSource> {
        let text = match read(file) {
            Ok(text) => text,
            Err(problem) => {
                let place = self.sheet.place(&self.at("file"));
                self.mistakes.push(Mistake::new(place, problem, "name a readable text file"));
                return None;
            }
        };
        let (parsed, form) = match kind {
            "cidr" => (CidrTable::parse(&text).map(MemoryTable::Cidr), "192.0.2.0/24 value"),
            "pcre" => (RegexpTable::parse(&text, Dialect::Pcre).map(MemoryTable::Regexp), "/pattern/flags value"),
            "regexp" => (RegexpTable::parse(&text, Dialect::Posix).map(MemoryTable::Regexp), "/pattern/flags value"),
            _ => (TextTable::parse(&text).map(MemoryTable::Text), "key value"),
        };
        match parsed {
            Ok(table) => Some(TableSource::Memory(table)),
            Err(wrong) => {
                let name = file.display().to_string();
                let remedy = format!("each row of [table.{}] is: {form}", self.name);
                let told = wrong
                    .into_iter()
                    .map(|wrong| Mistake::new(Place::file(&name, wrong.line.max(1), 1), wrong.text, remedy.clone()));
                self.mistakes.extend(told);
                None
            }
        }
    }
}

fn read(file: &Path) -> Result<String, String> {
    let size = std::fs::metadata(file).map(|about| about.len()).unwrap_or(0);
    if size > FILE_BYTES_MAX {
        return Err(format!("{} has {size} octets, too many for memory; use kind \"sqlite\"", file.display()));
    }
    let bytes =
        std::fs::read(file).map_err(|error| format!("cannot read {}: {}", file.display(), plain_error(&error)))?;
    String::from_utf8(bytes).map_err(|_| format!("{} is no text in UTF-8", file.display()))
}
