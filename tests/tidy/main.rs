//! The rules of the house that no compiler keeps: floors, foreign things in one crate each, pages with titles.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

/// Package name → (floor, names of its normal dependencies).
fn packages() -> BTreeMap<String, (Value, Vec<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let list = metadata["packages"].as_array().expect("a list");
    assert!(list.len() > 10, "the workspace has more than ten crates");
    list.iter().map(package).collect()
}

fn package(package: &Value) -> (String, (Value, Vec<String>)) {
    let name = package["name"].as_str().expect("a name").to_string();
    let floor = package["metadata"]["waypost"]["floor"].clone();
    let normal = package["dependencies"].as_array().expect("a list").iter().filter(|d| d["kind"].is_null());
    let dependencies = normal.map(|d| d["name"].as_str().expect("a name").to_string()).collect();
    (name, (floor, dependencies))
}

#[test]
fn dependencies_point_strictly_down_the_floors() {
    let all = packages();
    for (name, (floor, dependencies)) in &all {
        assert!(!floor.is_null(), "{name}: [package.metadata.waypost] floor is missing");
        let Some(floor) = floor.as_u64() else { continue };
        for dependency in dependencies {
            let Some((below, _)) = all.get(dependency) else { continue };
            let below =
                below.as_u64().unwrap_or_else(|| panic!("{name} depends on {dependency}, which is on no floor"));
            assert!(below < floor, "{name} (floor {floor}) depends on {dependency} (floor {below})");
        }
    }
}

#[test]
fn each_foreign_thing_is_wrapped_by_one_crate() {
    let wrappers: &[(&str, &[&str])] = &[
        ("rocksdb", &["waypost-store-rocks"]),
        ("rusqlite", &["waypost-table"]),
        ("wasmtime", &["waypost-plugin", "waypost-plugin-bindings"]),
        ("mail-auth", &["waypost-mailauth"]),
        ("hickory-resolver", &["waypost-resolve", "waypost-mailauth"]),
        ("hickory-proto", &["waypost-resolve", "waypost-mailauth"]),
        // The harness speaks TLS as badly as its tests want it.
        ("rustls", &["waypost-net", "waypost-tests"]),
        ("tokio-rustls", &["waypost-net"]),
        ("toml", &["waypost-config"]),
        ("toml_edit", &["waypost-config"]),
        ("tracing", &["waypost"]),
        ("anyhow", &["waypost"]),
    ];
    let all = packages();
    for (foreign, allowed) in wrappers {
        for (name, (_, dependencies)) in &all {
            let uses = dependencies.iter().any(|d| d == foreign);
            assert!(!uses || allowed.contains(&name.as_str()), "{name} depends on {foreign}; only {allowed:?} may");
        }
    }
}

#[test]
fn the_lower_floors_know_no_runtime() {
    let all = packages();
    for (name, (floor, dependencies)) in &all {
        if floor.as_u64().is_some_and(|f| f < 2) {
            for foreign in ["tokio", "socket2", "rand", "getrandom", "tracing", "log", "libc"] {
                assert!(!dependencies.iter().any(|d| d == foreign), "{name} (floor {floor}) depends on {foreign}");
            }
        }
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable").filter_map(Result::ok) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["core", "sdk", "plugins", "tests", "benches", "fuzz"] {
        let folder = root().join(folder);
        if folder.exists() {
            rust_files(&folder, &mut found);
        }
    }
    assert!(found.len() > 50, "the sources were found");
    found
}

#[test]
fn every_page_has_a_title() {
    let untitled: Vec<_> = sources()
        .into_iter()
        .filter(|path| {
            let text = fs::read_to_string(path).expect("UTF-8");
            let first = text.lines().find(|l| !l.is_empty() && !l.starts_with("#!")).unwrap_or("");
            !first.starts_with("//!")
        })
        .collect();
    assert!(untitled.is_empty(), "pages that do not open with `//!`: {untitled:#?}");
}

#[test]
fn nothing_is_left_to_do() {
    // Put together at run time, so that this page does not find itself.
    let marks = ["todo!", "unimplemented!"].map(|mark| format!("{mark}("));
    for path in sources() {
        let text = fs::read_to_string(&path).expect("UTF-8");
        for mark in &marks {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}

#[test]
fn only_the_daemon_writes_log_lines() {
    for path in sources() {
        let inside = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        if !inside.starts_with("core/")
            || inside.starts_with("core/daemon/")
            || inside.contains("/tests/")
            || inside.ends_with("/tests.rs")
            || inside.contains("/examples/")
        {
            continue;
        }
        let text = fs::read_to_string(&path).expect("UTF-8");
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        for macro_name in ["println!(", "eprintln!(", "tracing::", "log::info", "dbg!("] {
            assert!(!code.contains(macro_name), "{inside}: {macro_name} — say it as an Event");
        }
    }
}
