//! Finding a language's tools, and building its template.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;
use waypost_tests::{say_aloud, tool};

/// A language, and the programs that its `build.sh` calls.
pub(crate) struct Language {
    /// The folder below `sdk`.
    pub(crate) name: &'static str,
    tools: &'static [&'static str],
}

pub(crate) const GO: Language = Language { name: "go", tools: &["go", "wasm-tools"] };
pub(crate) const PYTHON: Language = Language { name: "python", tools: &["componentize-py"] };
pub(crate) const JAVASCRIPT: Language = Language { name: "javascript", tools: &["componentize-qjs"] };
pub(crate) const C: Language = Language { name: "c", tools: &["zig", "wasm-tools"] };
pub(crate) const ZIG: Language = Language { name: "zig", tools: &["zig", "wasm-tools"] };
pub(crate) const ASSEMBLYSCRIPT: Language = Language { name: "assemblyscript", tools: &["asc", "wasm-tools"] };

/// A template that was built, in a folder of its own.
pub(crate) struct Built {
    _folder: TempDir,
    /// The component.
    pub(crate) component: PathBuf,
}

/// One at a time: compilers share caches, and the machine.
static BUILDING: Mutex<()> = Mutex::new(());

impl Language {
    /// Builds the template; nothing if a tool is missing.
    pub(crate) fn build(&self) -> Option<Built> {
        self.build_with(&[], |_| ())
    }

    /// Builds another filter with the template's layer: the file at `source` in place of the template's own of that name, and these stages.
    pub(crate) fn build_other(&self, source: &Path, stages: &[&str]) -> Option<Built> {
        self.build_with(stages, |folder| {
            let name = source.file_name().expect("a file has a name");
            assert!(folder.join(name).exists(), "the template has a {}", name.display());
            fs::copy(source, folder.join(name)).expect("a file can be copied");
        })
    }

    fn build_with(&self, stages: &[&str], change: impl FnOnce(&Path)) -> Option<Built> {
        let missing: Vec<_> = self.tools.iter().filter(|name| find(name).is_none()).collect();
        if !missing.is_empty() {
            let text = format!(
                "SKIPPED: the {} template was not tried: {missing:?} missing; `make setup-languages` installs them",
                self.name
            );
            assert!(std::env::var_os("WAYPOST_LANGUAGES_REQUIRED").is_none(), "{text}");
            say_aloud(&text);
            return None;
        }
        let _alone = BUILDING.lock().unwrap_or_else(|broken| broken.into_inner());
        let folder = TempDir::new().expect("a temporary folder");
        copy(&sdk().join(self.name).join("template"), folder.path());
        copy(&sdk().join("wit"), &folder.path().join("wit"));
        change(folder.path());
        if !stages.is_empty() {
            export(&folder.path().join("world.wit"), stages);
        }
        tool::succeed("sh", &[&folder.path().join("build.sh").to_string_lossy()]);
        let component = component(folder.path());
        Some(Built { _folder: folder, component })
    }
}

/// Puts these stages in the place of those that a world exports.
fn export(world: &Path, stages: &[&str]) {
    let text = fs::read_to_string(world).expect("a template has a world.wit");
    let kept = text.lines().filter(|line| !line.contains("export waypost:plugin/on-") && *line != "}");
    let mut out: String = kept.map(|line| format!("{line}\n")).collect();
    stages.iter().for_each(|stage| out.push_str(&format!("  export waypost:plugin/on-{stage}@0.1.0;\n")));
    fs::write(world, out + "}\n").expect("writable");
}

/// The Rust template, which is a member of the workspace.
pub(crate) fn rust() -> PathBuf {
    let _alone = BUILDING.lock().unwrap_or_else(|broken| broken.into_inner());
    let root = sdk().join("..");
    let target = std::env::current_exe().expect("a test knows its own path");
    let target = target.ancestors().nth(3).expect("target/PROFILE/deps/test").to_path_buf();
    let manifest = root.join("Cargo.toml").to_string_lossy().into_owned();
    let folder = target.to_string_lossy().into_owned();
    let build = ["build", "--quiet", "--release", "--target", "wasm32-wasip2", "-p", "waypost-plugin-rate-limit"];
    tool::succeed(env!("CARGO"), &[&build[..], &["--manifest-path", &manifest, "--target-dir", &folder]].concat());
    target.join("wasm32-wasip2/release/waypost_plugin_rate_limit.wasm")
}

fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").join("sdk")
}

/// Where `sdk/setup-languages.sh` puts programs, then the path.
fn find(program: &str) -> Option<PathBuf> {
    let own = std::env::var_os("WAYPOST_LANGUAGES").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/waypost/languages"));
    let own = own.or_else(home).map(|folder| folder.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file() && starts(file))
}

fn starts(program: &Path) -> bool {
    Command::new(program)
        .arg("--help")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// What is under version control; what builds leave is not.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("the template is there").filter_map(Result::ok) {
        let (path, name) = (entry.path(), entry.file_name());
        if name == "build" || name == "__pycache__" {
            continue;
        }
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).expect("a file can be copied")),
        }
    }
}

/// The one that `plugin.toml` names.
fn component(folder: &Path) -> PathBuf {
    let text = fs::read_to_string(folder.join("plugin.toml")).expect("a template has a plugin.toml");
    let line = text.lines().find_map(|line| line.strip_prefix("component = \"")).expect("which names the component");
    folder.join(line.trim_end_matches('"'))
}
