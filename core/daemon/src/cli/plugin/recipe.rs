//! `plugin.toml`: what a folder's plugin is called, how it is built, and what it may do; and from there to the host's options.
//!
//! What stands in `[plugin]` is read by the configuration itself, as `[plugin.NAME]` of a server: names, limits and mistakes are the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use waypost_config::{Source, Surroundings};
use waypost_plugin::PluginOptions;

use super::Which;
use crate::assemble;

/// The file's name.
pub(super) const FILE: &str = "plugin.toml";

/// `plugin.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    pub(super) name: String,
    #[serde(default)]
    pub(super) about: String,
    #[serde(default)]
    pub(super) language: String,
    component: PathBuf,
    #[serde(default)]
    build: Vec<String>,
    #[serde(default)]
    needs: Vec<Need>,
    #[serde(default = "cases")]
    cases: PathBuf,
    #[serde(default)]
    plugin: Map<String, Value>,
}

/// What must be there before a build.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Need {
    run: String,
    remedy: String,
}

fn cases() -> PathBuf {
    "cases".into()
}

/// Reads a TOML file into a form; the error names file and field.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    parse(&path.display().to_string(), &text)
}

/// The same for a text.
pub(super) fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    let json = waypost_config::document(name, text)?;
    let mut reader = serde_json::Deserializer::from_str(&json);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| match error.path().to_string().as_str() {
        "." => anyhow!("{name}: {}", plain(error.inner())),
        path => anyhow!("{name}: {path}: {}", plain(error.inner())),
    })
}

/// Without the place in the JSON that nobody wrote.
pub(super) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(before, _)| before.to_string())
}

/// A folder with a recipe.
pub(super) struct Project {
    folder: PathBuf,
    pub(super) recipe: Recipe,
}

impl Project {
    /// Reads the recipe of a folder.
    pub(super) fn open(folder: &Path) -> Result<Project> {
        let file = folder.join(FILE);
        if !file.is_file() {
            bail!(
                "{} has no {FILE}: name the plugin's folder, or begin one with `waypost plugin new NAME`",
                folder.display()
            );
        }
        Ok(Project { folder: folder.to_path_buf(), recipe: read(&file)? })
    }

    fn component(&self) -> PathBuf {
        self.folder.join(&self.recipe.component)
    }

    /// Builds the component; what the tools print goes to the terminal.
    pub(super) fn build(&self) -> Result<()> {
        for need in &self.recipe.needs {
            let done = self.shell(&need.run).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            if !done.success() {
                bail!("`{}` does not work here: {}", need.run, need.remedy);
            }
        }
        let started = Instant::now();
        for line in &self.recipe.build {
            let done = self.shell(line).status().with_context(|| line.clone())?;
            if !done.success() {
                bail!("`{line}` failed ({done})");
            }
        }
        let component = self.component();
        let size = fs::metadata(&component).map(|meta| meta.len());
        let size = size.with_context(|| format!("the build did not make {}", component.display()))?;
        let seconds = started.elapsed().as_secs_f64();
        let kib = size.div_ceil(1024);
        println!("{}: {kib} KiB from {}, built in {seconds:.1} s", component.display(), self.recipe.language);
        Ok(())
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.folder).env("WAYPOST_WIT", self.wit());
        command
    }

    /// Where the contract lies: in the plugin's folder, or beside the templates of a clone.
    fn wit(&self) -> PathBuf {
        let folder = fs::canonicalize(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let mut places = vec![folder.join("wit"), folder.join("sdk/wit")];
        places.extend(folder.ancestors().skip(1).take(3).map(|above| above.join("wit")));
        places.into_iter().find(|place| place.join("hooks.wit").is_file()).unwrap_or_else(|| folder.join("wit"))
    }
}

/// A plugin to be tried.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) wasm: PathBuf,
    /// Where its cases lie, if it has a folder.
    pub(super) cases: Option<PathBuf>,
    section: Map<String, Value>,
}

impl Subject {
    /// The plugin that the command line names.
    pub(super) fn find(which: &Which) -> Result<Subject> {
        let mut subject = if which.plugin.is_dir() {
            let project = Project::open(&which.plugin)?;
            let wasm = project.component();
            if !wasm.is_file() {
                bail!("{} is not there: `waypost plugin build {}` makes it", wasm.display(), which.plugin.display());
            }
            let cases = Some(project.folder.join(&project.recipe.cases));
            Subject { name: project.recipe.name, wasm, cases, section: project.recipe.plugin }
        } else {
            let stem =
                which.plugin.file_stem().map(|stem| stem.to_string_lossy().replace('_', "-")).unwrap_or_default();
            let name = stem.strip_prefix("waypost-plugin-").unwrap_or(&stem).to_ascii_lowercase();
            let name = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(32).collect();
            Subject { name, wasm: which.plugin.clone(), cases: None, section: Map::new() }
        };
        if let Some(grants) = &which.grants {
            subject.section.insert("grants".into(), grants.clone().into());
        }
        if let Some(file) = &which.settings {
            let settings: Map<String, Value> = read(file)?;
            subject.section.insert("config".into(), subject.config(&Value::Object(settings)));
        }
        Ok(subject)
    }

    /// Takes settings and grants from a server's configuration, where there is a plugin of its name and nothing else says them.
    pub(super) fn adopt(&mut self, config: &waypost_config::Config) {
        let Some(plugin) = config.plugins.iter().find(|plugin| plugin.name == self.name) else { return };
        let settings: Value = serde_json::from_str(&plugin.config).unwrap_or_default();
        let mut adopt = |key: &str, value: Value| {
            self.section.entry(key).or_insert(value);
        };
        adopt("config", settings);
        adopt("grants", plugin.grants.clone().into());
        adopt("keys", plugin.keys.clone().into());
    }

    /// Its settings with others laid over them.
    pub(super) fn config(&self, over: &Value) -> Value {
        let mut config = self.section.get("config").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        lay_over(&mut config, over);
        config
    }

    /// The host's options, as a server's configuration would make them.
    pub(super) fn options(&self) -> Result<PluginOptions> {
        let mut section = self.section.clone();
        // What these name is not in a configuration here: cases bring tables, and there is a key for every name.
        let tables = names(section.remove("tables"));
        let mut keys = names(section.remove("keys"));
        if let Some(grants) = section.get_mut("grants").and_then(Value::as_array_mut) {
            let all = grants.len();
            grants.retain(|grant| grant != "keys");
            if grants.len() < all {
                keys = vec!["*".into()];
            }
        }
        let config = section.remove("config").unwrap_or_else(|| Value::Object(Map::new()));
        let name = &self.name;
        let mut overrides = vec![format!("plugins.chain=[\"{name}\"]")];
        section.insert(
            "path".into(),
            fs::canonicalize(&self.wasm).unwrap_or(self.wasm.clone()).display().to_string().into(),
        );
        overrides.extend(section.iter().map(|(key, value)| format!("plugin.{name}.{key}={}", toml(value))));
        let surroundings = Surroundings { plugins_required: true, ..super::super::surroundings() };
        let loaded = waypost_config::load(&Source::Demo, &overrides, &surroundings)?;
        let options = assemble::plugin_options(&loaded).plugins.into_iter().next();
        let mut options = options.ok_or_else(|| anyhow!("the plugin {name} was not found"))?;
        options.config = config.to_string();
        options.grants.tables = tables;
        options.grants.keys = keys;
        Ok(options)
    }
}

fn names(list: Option<Value>) -> Vec<String> {
    let list = list.and_then(|list| list.as_array().cloned()).unwrap_or_default();
    list.iter().filter_map(|name| name.as_str().map(str::to_string)).collect()
}

/// Lays `over` on `base`: sections are joined, everything else is replaced.
pub(super) fn lay_over(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// A value as TOML, on one line. JSON's texts are TOML's, too.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let field =
                |(key, value): (&&String, &&Value)| format!("{} = {}", Value::String((*key).clone()), toml(value));
            format!("{{ {} }}", sorted.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}

/// Where compiled plugins are kept between commands: a plugin in Python takes half a minute to compile.
pub(super) fn cache_dir() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    Some(cache.join("waypost/plugins"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_s_recipe_says_how_it_is_built() {
        let text = include_str!("../../../../../sdk/rust/template/plugin.toml");
        let recipe: Recipe = parse("plugin.toml", text).unwrap();
        assert_eq!(recipe.name, "rate-limit");
        assert_eq!(recipe.cases, Path::new("cases"));
        assert_eq!(recipe.plugin["grants"], serde_json::json!(["kv"]));
    }

    #[test]
    fn a_mistake_names_the_field() {
        let said = |text: &str| parse::<Recipe>("plugin.toml", text).err().unwrap().to_string();
        assert!(said("name = \"x\"").contains("missing field `component`"));
        let text = "name = \"x\"\ncomponent = \"x.wasm\"\nbuild = [1]";
        assert!(said(text).starts_with("plugin.toml: build[0]: "), "{}", said(text));
        assert!(said("name =").starts_with("plugin.toml:1:"), "{}", said("name ="));
    }

    #[test]
    fn sections_are_laid_over_one_another() {
        let mut base = serde_json::json!({"a": {"b": 1, "c": [1]}, "d": 1});
        lay_over(&mut base, &serde_json::json!({"a": {"c": [2]}, "d": null}));
        assert_eq!(base, serde_json::json!({"a": {"b": 1, "c": [2]}, "d": null}));
        assert_eq!(toml(&serde_json::json!({"a": ["x\"y", 1.5, true]})), r#"{ "a" = ["x\"y", 1.5, true] }"#);
    }
}
