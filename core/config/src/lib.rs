//! Text in, meaning out: the one configuration file, checked whole.
//!
//! [`load`] reads a TOML file (or the demonstration, when there is none), lays the `--set` of the command line over it, and gives either
//! a [`Config`] or **every** mistake, each with file, line, column and remedy. What settings there are stands in [`setting::SETTINGS`] and
//! nowhere else. Only `daemon` sees this crate: everybody else has small options of their own.
//!
//! | page | what it does |
//! |---|---|
//! | [`setting`] | the rows: name, kind, default, reload, Postfix's name, doc |
//! | `raw` | TOML and `--set` as a tree with places |
//! | `value` | one value at a time |
//! | `sheet` | every name with its value; unknown names; defaults |
//! | `table`, `aliases` | the files it names: users, aliases |
//! | `lookup` | `[table.*]`, read into memory where they are files |
//! | `checks` | what each port makes of the built-in checks |
//! | `decision` | thresholds for what plugins state |
//! | `check` | what values mean together |
//! | [`shaping`] | how large receivers want their mail: shipped rules and the operator's |
//! | [`model`] | [`Config`] |
//! | [`manual`] | `waypost help settings` and the example file |

pub mod bounces;
pub mod manual;
pub mod mistake;
pub mod model;
pub mod setting;
pub mod shaping;

mod aliases;
mod auth;
mod check;
mod checks;
mod decision;
mod lookup;
mod raw;
mod sheet;
mod table;
mod value;

use std::path::{Path, PathBuf};

pub use mistake::{Mistake, Mistakes, Place};
pub use model::Config;
use setting::Reload;

/// The configuration that `waypost run` uses when it is given none.
pub const DEMO: &str = include_str!("demo.toml");

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// No file: [`DEMO`].
    Demo,
    /// A file.
    File(PathBuf),
}

/// What the machine says about itself; the file may leave it out.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The folder that relative paths of the command line start from.
    pub folder: PathBuf,
    /// The machine's name.
    pub hostname: Option<String>,
    /// Where plugins lie beside the program.
    pub plugin_folders: Vec<PathBuf>,
    /// Whether it is a mistake that a plugin is not there. It is none for commands that ask no plugin.
    pub plugins_required: bool,
}

/// A TOML file that is no configuration of the server (a plugin's recipe, a case of its tests), as JSON. Every mistake of syntax is told,
/// each with line and column; `name` is the file's.
pub fn document(name: &str, text: &str) -> Result<String, Mistakes> {
    let mut mistakes = Vec::new();
    let table = raw::parse_file(name, text, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes));
    }
    let mut json = String::new();
    raw::Raw::Table(table).write_json(&mut json);
    Ok(json)
}

/// Reads and checks everything.
pub fn load(source: &Source, overrides: &[String], surroundings: &Surroundings) -> Result<Config, Mistakes> {
    let mut mistakes = Vec::new();
    let (name, text, base) = match source {
        Source::Demo => ("demo".to_string(), DEMO.to_string(), surroundings.folder.clone()),
        Source::File(file) => (
            file.display().to_string(),
            read(file, &mut mistakes)?,
            surroundings.folder.join(file.parent().unwrap_or(Path::new(""))),
        ),
    };
    let mut table = raw::parse_file(&name, &text, &mut mistakes);
    for text in overrides {
        raw::merge(&mut table, raw::parse_override(text, &mut mistakes));
    }
    let mut reader = value::Reader { file_base: &base, override_base: &surroundings.folder, mistakes };
    let sheet = sheet::Sheet::read(&table, &mut reader);
    let mistakes = reader.mistakes;
    check::check(sheet, surroundings, mistakes).map_err(sorted)
}

fn read(file: &Path, _: &mut [Mistake]) -> Result<String, Mistakes> {
    std::fs::read_to_string(file).map_err(|error| {
        let problem = format!("cannot read the configuration: {}", value::plain_error(&error));
        let remedy = "check the path, its owner and its mode; `waypost help example` prints a file to begin with";
        Mistakes(vec![Mistake::new(Place::file(&file.display().to_string(), 1, 1), problem, remedy)])
    })
}

fn sorted(mut mistakes: Vec<Mistake>) -> Mistakes {
    mistakes.sort_by(|a, b| a.place.cmp(&b.place));
    mistakes.dedup();
    Mistakes(mistakes)
}

impl Config {
    /// The settings that differ from `running` and only take effect at the next start.
    pub fn needs_restart(&self, running: &Config) -> Vec<String> {
        let restart = |name: &String| setting::find(name).is_some_and(|row| row.reload == Reload::Restart);
        self.sheet.differences(&running.sheet).into_iter().filter(restart).collect()
    }
}

#[cfg(test)]
mod tests;
