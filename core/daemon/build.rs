//! Puts the templates of `sdk/<language>` into the program, with the contract and what a Rust plugin links, so that `waypost plugin new`
//! needs nothing but the binary.
//!
//! A language is a folder below `sdk` that holds a `plugin.toml`, itself or in `template/`. What builds leave behind is not taken.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Larger files are no source.
const FILE_BYTES_MAX: u64 = 512 << 10;

/// Folders that tools make.
const MADE: [&str; 8] = ["target", "build", "dist", "node_modules", "__pycache__", "venv", "zig-out", "zig-cache"];

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = manifest.ancestors().nth(2).expect("core/daemon lies two below the root").to_path_buf();
    let sdk = root.join("sdk");
    println!("cargo:rerun-if-changed=build.rs");
    // Not `sdk` whole: cargo looks at all that lies below, and whoever builds a template in place would build the server anew.
    println!("cargo:rerun-if-changed={}", sdk.join("README.md").display());
    let mut text = String::from("pub(super) static LANGUAGES: &[(&str, Files)] = &[\n");
    for (language, folder) in languages(&sdk) {
        writeln!(text, "({language:?}, &[{}]),", rows(&files(&folder))).expect("a string takes all");
    }
    text.push_str("];\n");
    let mut rust = with_prefix("rust/", &files_of(&sdk.join("rust"), &["Cargo.toml", "src"]));
    rust.append(&mut with_prefix("types/", &files_of(&root.join("core/types"), &["Cargo.toml", "src"])));
    rust.append(&mut with_prefix("wit/", &files(&sdk.join("wit"))));
    writeln!(text, "pub(super) static RUST_SDK: Files = &[{}];", rows(&rust)).expect("a string takes all");
    writeln!(text, "pub(super) static WIT: Files = &[{}];", rows(&files(&sdk.join("wit"))))
        .expect("a string takes all");
    let workspace = BTreeMap::from([("Cargo.toml".to_string(), root.join("Cargo.toml"))]);
    println!("cargo:rerun-if-changed={}", root.join("Cargo.toml").display());
    writeln!(text, "pub(super) static WORKSPACE: Files = &[{}];", rows(&workspace)).expect("a string takes all");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("templates.rs");
    fs::write(out, text).expect("OUT_DIR can be written to");
}

/// Name and template folder of every language.
fn languages(sdk: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(sdk).expect("sdk is there").filter_map(Result::ok) {
        let language = entry.file_name().to_string_lossy().into_owned();
        let folders = [entry.path().join("template"), entry.path()];
        if let Some(folder) = folders.into_iter().find(|folder| folder.join("plugin.toml").is_file()) {
            found.insert(language, folder);
        }
    }
    found
}

/// The sources below a folder, by their names from there.
fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    walk(folder, "", &mut found);
    found
}

fn files_of(folder: &Path, names: &[&str]) -> BTreeMap<String, PathBuf> {
    let wanted = |name: &String| names.iter().any(|first| name == first || name.starts_with(&format!("{first}/")));
    files(folder).into_iter().filter(|(name, _)| wanted(name)).collect()
}

fn walk(folder: &Path, prefix: &str, found: &mut BTreeMap<String, PathBuf>) {
    if !MADE.iter().any(|made| folder.join(made).exists()) {
        println!("cargo:rerun-if-changed={}", folder.display());
    }
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let hidden = name.starts_with('.') && name != ".gitignore";
        if hidden || MADE.contains(&name.as_str()) || name == "Cargo.lock" {
            continue;
        }
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => walk(&path, &format!("{prefix}{name}/"), found),
            Ok(meta) if meta.len() <= FILE_BYTES_MAX && fs::read_to_string(&path).is_ok() => {
                println!("cargo:rerun-if-changed={}", path.display());
                found.insert(format!("{prefix}{name}"), path);
            }
            _ => {}
        }
    }
}

fn with_prefix(prefix: &str, files: &BTreeMap<String, PathBuf>) -> BTreeMap<String, PathBuf> {
    files.iter().map(|(name, path)| (format!("{prefix}{name}"), path.clone())).collect()
}

fn rows(files: &BTreeMap<String, PathBuf>) -> String {
    let row =
        |(name, path): (&String, &PathBuf)| format!("({name:?}, include_str!({:?})), ", path.display().to_string());
    files.iter().map(row).collect()
}
