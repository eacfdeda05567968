//! The whole configuration as a sheet: one value for each name, with the place that says so.
//!
//! Unknown names are found here, values understood (by `value`), and what is not said is filled in from the rows and presets of
//! `setting`. What several values mean together is for `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waypost_types::Domain;

use crate::mistake::{Mistake, Place, nearest};
use crate::raw::{Entry, Item, Raw, Table, parse_file};
use crate::setting::{self, Fallback, Kind, PRESETS, SECTIONS, SETTINGS, Setting};
use crate::value::{Reader, Value, is_name, subsection};

/// Containers of sections that the operator names.
const NAMED: [&str; 9] = ["listener", "plugin", "decision", "table", "dkim", "source", "smarthost", "post", "pipe"];

/// A value and who says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// Values by full name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sheet {
    values: BTreeMap<String, Given>,
    /// The sections of each of [`NAMED`] and where they begin.
    names: BTreeMap<&'static str, Vec<(String, Place)>>,
    /// What was given but could not be understood; that is told once.
    misread: BTreeSet<String>,
}

impl Sheet {
    /// Reads a tree. The sheet holds everything that could be understood.
    pub(crate) fn read(table: &Table, reader: &mut Reader<'_>) -> Sheet {
        let mut sheet = Sheet::default();
        sheet.walk("", table, reader);
        for container in NAMED {
            let names = subsection(table, container).into_iter().flatten();
            let names = names.map(|(name, entry)| (name.clone(), entry.key_place.clone()));
            sheet.names.insert(container, names.collect());
        }
        sheet.name_plugins_of_the_chain();
        sheet.fill(reader);
        sheet
    }

    /// A plugin of the chain that needs no settings of its own need not have a section.
    fn name_plugins_of_the_chain(&mut self) {
        let place = self.place("plugins.chain");
        let chain: Vec<String> = self.texts("plugins.chain").into_iter().flatten().map(str::to_string).collect();
        let plugins = self.names.entry("plugin").or_default();
        for name in chain {
            if !plugins.iter().any(|(known, _)| *known == name) {
                plugins.push((name, place.clone()));
            }
        }
    }

    fn walk(&mut self, section: &str, table: &Table, reader: &mut Reader<'_>) {
        for (key, entry) in table {
            let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            if key.contains('.') {
                reader.mistakes.push(unknown(section, key, entry));
            } else if let Some(setting) = setting::find(&path) {
                self.take(&path, setting, &entry.item, reader);
            } else if NAMED.contains(&section) && !is_name(key) {
                let problem = format!("`{key}` cannot name a section");
                reader.mistakes.push(Mistake::new(
                    entry.key_place.clone(),
                    problem,
                    "use letters, digits, `-` and `_`",
                ));
            } else if is_section(&path) {
                match &entry.item.raw {
                    Raw::Table(inner) => self.walk(&path, inner, reader),
                    _ => reader.mistakes.push(no_section(&path, entry)),
                }
            } else {
                reader.mistakes.push(unknown(section, key, entry));
            }
        }
    }

    fn take(&mut self, path: &str, setting: &Setting, item: &Item, reader: &mut Reader<'_>) {
        let read = reader.read(path, setting.kind, item);
        if read.is_none() {
            self.misread.insert(path.to_string());
        }
        // After a mistake the default lets the other checks go on.
        if let Some(value) = read.or_else(|| self.default_of(path, setting)) {
            self.values.insert(path.to_string(), Given { value, place: item.place.clone() });
        }
    }

    /// Puts in what is not said. Presets come first in [`SETTINGS`], so they are known when they are asked.
    fn fill(&mut self, reader: &mut Reader<'_>) {
        for setting in SETTINGS {
            for (path, place) in self.full_names(setting) {
                if self.values.contains_key(&path) {
                    continue;
                }
                if let Some(value) = self.default_of(&path, setting) {
                    self.values.insert(path, Given { value, place: Place::Default });
                } else if setting.default == Fallback::Required && !self.misread.contains(&path) {
                    let remedy = format!("add `{} = …`: {}", setting.leaf(), setting.doc);
                    reader.mistakes.push(Mistake::new(place, format!("`{path}` is missing"), remedy));
                }
            }
        }
    }

    /// The names that a row stands for here, with the place of their section.
    fn full_names(&self, setting: &Setting) -> Vec<(String, Place)> {
        let Some((container, leaf)) = setting.path.split_once(".*.") else {
            return vec![(setting.path.to_string(), Place::Default)];
        };
        let names = self.names.get(container).into_iter().flatten();
        names.map(|(name, place)| (format!("{container}.{name}.{leaf}"), place.clone())).collect()
    }

    fn default_of(&self, path: &str, setting: &Setting) -> Option<Value> {
        let text = match setting.default {
            Fallback::Toml(text) => text,
            Fallback::Preset => {
                let (section, leaf) = path.rsplit_once('.')?;
                let preset = self.word(&format!("{section}.preset")).unwrap_or("mx");
                let says = PRESETS.iter().find(|(name, _)| *name == preset)?.1;
                says.iter().find(|(name, _)| *name == leaf)?.1
            }
            Fallback::Required | Fallback::Absent(_) => return None,
        };
        Some(understood(path, setting.kind, text))
    }

    /// The names of the sections of a container.
    pub(crate) fn names(&self, container: &str) -> &[(String, Place)] {
        self.names.get(container).map_or(&[], Vec::as_slice)
    }

    /// Who says a value.
    pub(crate) fn place(&self, path: &str) -> Place {
        self.values.get(path).map_or(Place::Default, |given| given.place.clone())
    }

    /// Whether it was given but could not be understood.
    pub(crate) fn is_misread(&self, path: &str) -> bool {
        self.misread.contains(path)
    }

    /// Whether the operator said it.
    pub(crate) fn is_given(&self, path: &str) -> bool {
        self.values.get(path).is_some_and(|given| given.place != Place::Default)
    }

    fn value(&self, path: &str) -> Option<&Value> {
        debug_assert!(setting::find(path).is_some(), "{path} is no setting");
        self.values.get(path).map(|given| &given.value)
    }

    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        if let Value::Flag(flag) = self.value(path)? { Some(*flag) } else { None }
    }

    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        if let Value::Number(number) = self.value(path)? { Some(*number) } else { None }
    }

    pub(crate) fn weight(&self, path: &str) -> Option<f64> {
        if let Value::Weight(weight) = self.value(path)? { Some(*weight) } else { None }
    }

    /// The numbers of a list.
    pub(crate) fn numbers(&self, path: &str) -> Vec<u32> {
        let number = |value: &Value| if let Value::Number(number) = value { u32::try_from(*number).ok() } else { None };
        self.list(path, number).unwrap_or_default()
    }

    pub(crate) fn socket(&self, path: &str) -> Option<SocketAddr> {
        if let Value::Socket(socket) = self.value(path)? { Some(*socket) } else { None }
    }

    pub(crate) fn span(&self, path: &str) -> Option<Duration> {
        if let Value::Span(span) = self.value(path)? { Some(*span) } else { None }
    }

    pub(crate) fn word(&self, path: &str) -> Option<&'static str> {
        if let Value::Word(word) = self.value(path)? { Some(word) } else { None }
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        if let Value::Text(text) | Value::Free(text) = self.value(path)? { Some(text) } else { None }
    }

    pub(crate) fn domain(&self, path: &str) -> Option<&Domain> {
        if let Value::Domain(domain) = self.value(path)? { Some(domain) } else { None }
    }

    pub(crate) fn path(&self, path: &str) -> Option<&Path> {
        if let Value::Path(file) = self.value(path)? { Some(file) } else { None }
    }

    /// A list, taken apart by `take`; `None` if it is not set.
    fn list<'a, T>(&'a self, path: &str, take: impl Fn(&'a Value) -> Option<T>) -> Option<Vec<T>> {
        if let Value::List(values) = self.value(path)? { values.iter().map(take).collect() } else { None }
    }

    pub(crate) fn texts(&self, path: &str) -> Option<Vec<&str>> {
        self.list(path, |value| match value {
            Value::Text(text) => Some(text.as_str()),
            Value::Word(word) => Some(*word),
            _ => None,
        })
    }

    /// A list of words of the program's own.
    pub(crate) fn words(&self, path: &str) -> Vec<&'static str> {
        let words = self.list(path, |value| if let Value::Word(word) = value { Some(*word) } else { None });
        words.unwrap_or_default()
    }

    pub(crate) fn domains(&self, path: &str) -> Vec<Domain> {
        self.list(path, |v| if let Value::Domain(domain) = v { Some(domain.clone()) } else { None }).unwrap_or_default()
    }

    pub(crate) fn sockets(&self, path: &str) -> Vec<SocketAddr> {
        self.list(path, |v| if let Value::Socket(socket) = v { Some(*socket) } else { None }).unwrap_or_default()
    }

    pub(crate) fn networks(&self, path: &str) -> Vec<ipnet::IpNet> {
        self.list(path, |v| if let Value::Network(net) = v { Some(*net) } else { None }).unwrap_or_default()
    }

    pub(crate) fn paths(&self, path: &str) -> Option<Vec<PathBuf>> {
        self.list(path, |v| if let Value::Path(file) = v { Some(file.clone()) } else { None })
    }

    /// A map of texts.
    pub(crate) fn map(&self, path: &str) -> Vec<(&str, Vec<&str>, &Place)> {
        let Some(Value::Map(entries)) = self.value(path) else { return Vec::new() };
        entries.iter().map(|(key, values, place)| (key.as_str(), text_values(values), place)).collect()
    }

    /// The names whose values differ between two sheets.
    pub(crate) fn differences(&self, other: &Sheet) -> Vec<String> {
        let value = |sheet: &Sheet, name: &str| sheet.values.get(name).map(|given| given.value.clone());
        let names: BTreeSet<_> = self.values.keys().chain(other.values.keys()).collect();
        names.into_iter().filter(|name| value(self, name) != value(other, name)).cloned().collect()
    }
}

fn text_values(values: &[Value]) -> Vec<&str> {
    let mut texts = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::Text(text) => texts.push(text.as_str()),
            Value::Word(word) => texts.push(*word),
            _ => {}
        }
    }
    texts
}

/// A default of ours, which cannot be wrong: a test reads them all.
fn understood(path: &str, kind: Kind, text: &str) -> Value {
    let mut mistakes = Vec::new();
    let table = parse_file("default", &format!("value = {text}"), &mut mistakes);
    let here = Path::new("");
    let mut reader = Reader { file_base: here, override_base: here, mistakes };
    let value = reader.read(path, kind, &table["value"].item);
    value.unwrap_or_else(|| panic!("the default of {path} is wrong: {:?}", reader.mistakes))
}

fn is_section(path: &str) -> bool {
    NAMED.contains(&path) || SECTIONS.iter().any(|(pattern, _)| !pattern.is_empty() && setting::matches(pattern, path))
}

fn no_section(path: &str, entry: &Entry) -> Mistake {
    let problem = format!("`{path}` is a section, not {}", entry.item.raw.word());
    let name = if NAMED.contains(&path) { format!("{path}.NAME") } else { path.to_string() };
    Mistake::new(entry.item.place.clone(), problem, format!("begin it with a line [{name}]"))
}

fn unknown(section: &str, key: &str, entry: &Entry) -> Mistake {
    let shown = if section.is_empty() { key.to_string() } else { format!("{section}.{key}") };
    let what = if matches!(entry.item.raw, Raw::Table(_)) { "section" } else { "setting" };
    Mistake::new(entry.key_place.clone(), format!("unknown {what} `{shown}`"), unknown_remedy(section, key))
}

fn unknown_remedy(section: &str, key: &str) -> String {
    let siblings = SETTINGS.iter().filter(|s| setting::matches(s.section(), section) || s.section() == section);
    let tops =
        SECTIONS.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).map(|name| name.trim_end_matches(".*"));
    let known: Vec<&str> = siblings.map(Setting::leaf).chain(tops.filter(|_| section.is_empty())).collect();
    if let Some(meant) = nearest(key, known.iter().copied()) {
        return format!("did you mean `{meant}`?");
    }
    if let Some(elsewhere) = SETTINGS.iter().find(|setting| setting.leaf() == key && !setting.section().is_empty()) {
        return format!("`{key}` belongs into [{}]", elsewhere.section().replace('*', "NAME"));
    }
    if let Some(postfix) = SETTINGS.iter().find(|s| s.postfix.split(", ").any(|name| name == key)) {
        return format!("what Postfix calls {key} is `{}` here", postfix.path.replace('*', "NAME"));
    }
    format!("known here: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        for setting in SETTINGS {
            if let Fallback::Toml(text) = setting.default {
                understood(setting.path, setting.kind, text);
            }
        }
        for (_, says) in PRESETS {
            for (leaf, text) in *says {
                let setting = setting::find(&format!("listener.x.{leaf}")).expect("presets speak of settings");
                understood(setting.path, setting.kind, text);
            }
        }
    }
}
