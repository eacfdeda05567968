//! The process under test: the real binary with a data folder and ports of its own.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::names::NoNames;
use crate::{free_port, wait_for};

/// A running server.
pub struct Waypost {
    child: Option<Child>,
    /// Holds the log, and the data unless they lie elsewhere.
    own: TempDir,
    data: PathBuf,
    sets: Vec<String>,
    environment: Vec<(String, String)>,
    compiles: bool,
    open_files: Option<u32>,
    names: u16,
    _no_names: Option<NoNames>,
    /// Port of the `mx` listener.
    pub mx: u16,
    /// Port of the `submission` listener.
    pub submission: u16,
    /// Port of the `submissions` listener.
    pub submissions: u16,
    /// Port of the admin interface.
    pub admin: u16,
}

/// The binary that was built beside the running test.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/test").to_path_buf();
    let binary = folder.join("waypost");
    assert!(binary.exists(), "{} is missing: `make test` builds it first", binary.display());
    binary
}

/// The four plugins, compiled once for all servers of a test program.
fn compiled_plugins() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let binary = binary();
        let beside = binary.parent().expect("it lies in a folder");
        let cache = beside.join("plugins-compiled-for-tests");
        let built = beside.join("../wasm32-wasip2/release");
        let names = ["whitelist", "dns_lists", "spam_score", "dkim_sign"];
        let files = names.map(|name| built.join(format!("waypost_plugin_{name}.wasm")));
        let status = Command::new(&binary).arg("precompile").arg(&cache).args(files).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the plugins cannot be compiled: `make plugins` builds them"
        );
        cache
    })
}

impl Waypost {
    /// Starts the demo site, with `sets` as further `--set` arguments, and waits until it listens.
    pub fn start(sets: &[&str]) -> Waypost {
        Waypost::start_in(None, None, sets)
    }

    /// The same with the data folder inside `folder`, which stays when the server is dropped, and with a name server of the test's own at
    /// this port.
    pub fn start_in(folder: Option<&Path>, names: Option<u16>, sets: &[&str]) -> Waypost {
        let mut waypost = Waypost::prepared(folder, names, sets);
        waypost.run();
        waypost
    }

    /// The demo site with these in its environment.
    pub fn start_with_environment(environment: &[(&str, &str)]) -> Waypost {
        let mut waypost = Waypost::prepared(None, None, &[]);
        waypost.environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        waypost.run();
        waypost
    }

    /// The demo site whose first start compiles its plugins.
    pub fn start_uncompiled() -> Waypost {
        let mut waypost = Waypost::prepared(None, None, &[]);
        waypost.compiles = true;
        waypost.run();
        waypost
    }

    /// The demo site where the system allows so many open files.
    pub fn start_with_open_files(limit: u32, sets: &[&str]) -> Waypost {
        let mut waypost = Waypost::prepared(None, None, sets);
        waypost.open_files = Some(limit);
        waypost.run();
        waypost
    }

    /// Not started: for commands on the data folder inside `folder`.
    pub fn stopped_in(folder: &Path, sets: &[&str]) -> Waypost {
        Waypost::prepared(Some(folder), None, sets)
    }

    /// The same, asking a name server of the test's own at this port.
    pub fn stopped_with_names(folder: &Path, names: u16, sets: &[&str]) -> Waypost {
        Waypost::prepared(Some(folder), Some(names), sets)
    }

    fn prepared(folder: Option<&Path>, names: Option<u16>, sets: &[&str]) -> Waypost {
        let own = TempDir::new().expect("a temporary folder");
        let no_names = names.is_none().then(NoNames::start);
        Waypost {
            child: None,
            names: names.or(no_names.as_ref().map(|names| names.port)).expect("one of the two"),
            _no_names: no_names,
            data: folder.unwrap_or(own.path()).join("data"),
            own,
            sets: sets.iter().map(|s| s.to_string()).collect(),
            environment: Vec::new(),
            compiles: false,
            open_files: None,
            mx: free_port(),
            submission: free_port(),
            submissions: free_port(),
            admin: free_port(),
        }
    }

    /// Starts the process again on the same data and ports.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it is running");
        if !self.data.join("plugin-cache").exists() && !self.compiles {
            self.give_compiled_plugins();
        }
        let log = fs::File::options().create(true).append(true).open(self.log_path()).expect("the log can be written");
        let mut command = self.program();
        command.arg("run").arg("--data").arg(&self.data);
        for set in self.arguments() {
            command.arg("--set").arg(set);
        }
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle can be cloned")).stderr(log);
        self.child = Some(command.spawn().expect("the binary starts"));
        self.wait_until_listening();
    }

    /// Saves it, and the machine, the seconds of a first start.
    fn give_compiled_plugins(&self) {
        let folder = self.data.join("plugin-cache");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).expect("the data folder can be made");
        for file in fs::read_dir(compiled_plugins()).expect("it was just made").flatten() {
            fs::copy(file.path(), folder.join(file.file_name())).expect("it can be copied");
        }
    }

    fn program(&self) -> Command {
        let Some(limit) = self.open_files else { return Command::new(binary()) };
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg(binary());
        command
    }

    fn arguments(&self) -> Vec<String> {
        let mut all = vec![
            format!("listener.mx.bind=[\"127.0.0.1:{}\"]", self.mx),
            format!("listener.submission.bind=[\"127.0.0.1:{}\"]", self.submission),
            format!("listener.submissions.bind=[\"127.0.0.1:{}\"]", self.submissions),
            format!("admin.bind=[\"127.0.0.1:{}\"]", self.admin),
            format!("dns.servers=[\"127.0.0.1:{}\"]", self.names),
            "dns.dnssec=false".to_string(),
            "log.format=json".to_string(),
        ];
        all.extend(self.sets.iter().cloned());
        all
    }

    fn wait_until_listening(&mut self) {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while std::time::Instant::now() < end {
            let child = self.child.as_mut().expect("just started");
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                panic!("the server ended at start: {status}\n{}", self.log());
            }
            // The greeting, not the open port, says that it is ready: ports are bound before the store is open.
            if self.greets(self.mx) && self.log().contains("started") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("not listening within a minute\n{}", self.log());
    }

    fn greets(&self, port: u16) -> bool {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        let mut code = [0; 3];
        let greeted = stream.read_exact(&mut code).is_ok() && &code == b"220";
        let _ = stream.write_all(b"QUIT\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
        greeted
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// Replaces the further `--set` arguments for the next [`Waypost::run`].
    pub fn set(&mut self, sets: &[&str]) {
        self.sets = sets.iter().map(|s| s.to_string()).collect();
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        crate::tool::succeed("kill", &[&format!("-{signal}"), &self.pid().to_string()]);
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut child = self.child.take().expect("it is running");
        wait_for("the server to end after SIGTERM", Duration::from_secs(60), || child.try_wait().expect("asked"))
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// What it printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.own.path().join("log")
    }

    /// The log's JSON lines whose `event` is this.
    pub fn events(&self, event: &str) -> Vec<serde_json::Value> {
        let lines = self.log();
        let values = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        values.filter(|value| field(value, "event") == Some(event)).collect()
    }

    /// The demo user's password.
    pub fn password(&self) -> String {
        let path = self.data().join("demo-password");
        fs::read_to_string(&path).expect("the demo password is kept").trim().to_string()
    }

    /// The messages in a mailbox.
    pub fn mailbox(&self, name: &str) -> Vec<String> {
        let folder = self.data().join("mail").join(name).join("new");
        let mut paths: Vec<_> = read_folder(&folder);
        paths.sort();
        paths.iter().map(|path| String::from_utf8_lossy(&fs::read(path).expect("readable")).into_owned()).collect()
    }

    /// The same, with the time at which each was written.
    pub fn mailbox_with_times(&self, name: &str) -> Vec<(SystemTime, String)> {
        let folder = self.data().join("mail").join(name).join("new");
        let read = |path: PathBuf| {
            let at = fs::metadata(&path).and_then(|facts| facts.modified()).expect("a file has a time");
            (at, String::from_utf8_lossy(&fs::read(path).expect("readable")).into_owned())
        };
        read_folder(&folder).into_iter().map(read).collect()
    }

    /// Waits until a mailbox has this many messages.
    pub fn wait_for_mail(&self, name: &str, count: usize) -> Vec<String> {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            let mail = self.mailbox(name);
            if mail.len() >= count {
                return mail;
            }
            assert!(std::time::Instant::now() < end, "{} of {count} in {name}'s mailbox\n{}", mail.len(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs `waypost` with these arguments on the same data; gives standard output and error.
    pub fn command(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--data").arg(self.data());
        for set in self.arguments() {
            command.arg("--set").arg(set);
        }
        let output = command.output().expect("the binary starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Waypost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", self.log());
        }
        self.kill();
    }
}

/// A field of a JSON log line, at the top or under `fields`.
pub fn field<'a>(value: &'a serde_json::Value, name: &str) -> Option<&'a str> {
    value.get(name).or_else(|| value.get("fields")?.get(name))?.as_str()
}

fn read_folder(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
