//! `waypost plugin new`: a language's template, copied with another name.
//!
//! The templates are the folders of `sdk` as they were when the program was built (`build.rs`). They are working plugins, tested as
//! such; a copy differs in nothing but the name, which is found in the three ways in which programs write it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::recipe::{self, FILE, Recipe};

/// Names and contents.
type Files = &'static [(&'static str, &'static str)];

include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Begins a plugin.
#[derive(Args)]
#[command(after_help = languages())]
pub(super) struct Arguments {
    /// Its name: lower-case letters, digits and hyphens, at most 32
    name: String,
    /// The language
    #[arg(long, short, default_value = "rust")]
    language: String,
    /// The folder to make, instead of one with the plugin's name
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

fn languages() -> String {
    let about = |files: Files| Some(parse(files).ok()?.about);
    let line = |(language, files): &(&str, Files)| format!("\n  {language:<16} {}", about(files).unwrap_or_default());
    format!("Languages, and the small filter that each begins with:{}", LANGUAGES.iter().map(line).collect::<String>())
}

fn parse(files: Files) -> Result<Recipe> {
    let file = files.iter().find(|(name, _)| *name == FILE).context("a template has a plugin.toml")?;
    recipe::parse(FILE, file.1)
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let name = &arguments.name;
    if !is_name(name) {
        bail!(
            "`{name}` cannot be a plugin's name: use at most 32 lower-case letters, digits and hyphens, a letter first"
        );
    }
    let Some((language, files)) = LANGUAGES.iter().find(|(language, _)| *language == arguments.language) else {
        let known: Vec<_> = LANGUAGES.iter().map(|(language, _)| *language).collect();
        bail!("there is no template for `{}`; there are {}", arguments.language, known.join(", "));
    };
    let folder = arguments.folder.clone().unwrap_or_else(|| name.into());
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is there and not empty: name another with --folder", folder.display());
    }
    let old = parse(files)?.name;
    for (file, text) in *files {
        write(&folder, &renamed(file, &old, name), &renamed(text, &old, name))?;
    }
    match *language {
        "rust" => add_rust_sdk(&folder)?,
        _ => WIT.iter().try_for_each(|(file, text)| write(&folder.join("wit"), file, text))?,
    }
    println!(
        "{} is a working plugin. Next:\n  cd {0}\n  waypost plugin build\n  waypost plugin test",
        folder.display()
    );
    Ok(())
}

/// What a crate is called can be a plugin's name.
fn is_name(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    letters && (1..=32).contains(&name.len()) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let parent = path.parent().context("a file has a folder")?;
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// With the new name in place of the old one: `rate-limit`, `rate_limit`, `RateLimit`.
fn renamed(text: &str, old: &str, new: &str) -> String {
    let snake = |name: &str| name.replace('-', "_");
    text.replace(old, new).replace(&snake(old), &snake(new)).replace(&camel(old), &camel(new))
}

fn camel(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(word).collect()
}

/// Puts what a Rust plugin links into `sdk/`, a workspace of its own, and makes the plugin's manifest point there.
fn add_rust_sdk(folder: &Path) -> Result<()> {
    let sdk = folder.join("sdk");
    RUST_SDK.iter().try_for_each(|(file, text)| write(&sdk, file, text))?;
    let root = WORKSPACE.first().context("the workspace's manifest is there")?.1;
    write(&sdk, "Cargo.toml", &sdk_workspace(root))?;
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, standalone(&text)).with_context(|| manifest.display().to_string())
}

/// The plugin's manifest outside the SDK's tree.
fn standalone(text: &str) -> String {
    let text = text.replace("waypost-sdk = { path = \"..\" }", "waypost-sdk = { path = \"sdk/rust\" }");
    let text = text.replace("[package.metadata.waypost]\nfloor = \"plugin\"\n\n", "");
    // Nobody else's workspace, whatever lies above; and `sdk` has its own.
    format!("{}\n[workspace]\nexclude = [\"sdk\"]\n", drop_comment(&text))
}

/// Without the lines in front that speak to whoever copies the folder by hand.
fn drop_comment(text: &str) -> String {
    text.lines().skip_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// The sections of the root's manifest that the SDK's crates inherit from.
fn sdk_workspace(root: &str) -> String {
    let needed =
        ["bytes", "idna", "mail-parser", "memchr", "serde", "serde_json", "serde_path_to_error", "sha2", "wit-bindgen"];
    let mut out = String::from("[workspace]\nresolver = \"3\"\nmembers = [\"rust\", \"types\"]\n");
    let mut section = "";
    for line in root.lines() {
        if line.starts_with('[') {
            section = line;
            if matches!(section, "[workspace.package]" | "[workspace.dependencies]")
                || section.starts_with("[workspace.lints")
            {
                out.push_str(&format!("\n{line}\n"));
            }
            continue;
        }
        let keep = match section {
            "[workspace.dependencies]" => line.split_once(" = ").is_some_and(|(name, _)| needed.contains(&name.trim())),
            "[workspace.package]" => !line.is_empty(),
            other => other.starts_with("[workspace.lints") && !line.is_empty(),
        };
        if keep {
            out.push_str(&format!("{line}\n"));
        }
        if section == "[workspace.dependencies]" && line.starts_with("waypost-types = ") {
            out.push_str("waypost-types = { path = \"types\" }\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_however_a_program_writes_it() {
        let text = "rate-limit rate_limit RateLimit rate limit";
        assert_eq!(renamed(text, "rate-limit", "my-first-2"), "my-first-2 my_first_2 MyFirst2 rate limit");
    }

    #[test]
    fn every_template_has_a_recipe_whose_name_stands_in_its_files() {
        assert!(LANGUAGES.iter().any(|(language, _)| *language == "rust"));
        for (language, files) in LANGUAGES {
            let recipe = parse(files).unwrap();
            assert_eq!(recipe.language, *language);
            assert!(!recipe.about.is_empty() && is_name(&recipe.name), "{language}");
        }
    }

    #[test]
    fn what_the_sdk_inherits_is_in_its_own_workspace() {
        let workspace = sdk_workspace(WORKSPACE[0].1);
        for line in [
            "edition = ",
            "rust-version = ",
            "wit-bindgen = ",
            "sha2 = ",
            "waypost-types = { path = \"types\" }",
            "missing_docs = ",
        ] {
            assert!(workspace.lines().any(|l| l.starts_with(line)), "{line} in\n{workspace}");
        }
        assert!(!workspace.contains("wasmtime"));
        assert!(RUST_SDK.iter().any(|(name, _)| *name == "wit/hooks.wit"));
        assert!(RUST_SDK.iter().any(|(name, _)| *name == "types/src/header.rs"));
    }
}
