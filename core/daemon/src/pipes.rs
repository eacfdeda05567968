//! The helper that runs programs for `pipe:` transports: a process of its own, so that the server, which reads what strangers write, can go on running nothing at all.
//!
//! It is started while the server still has its ports and, perhaps, root, and only if `[pipe.*]` names programs. It listens on a socket in the data folder that only the server's user can
//! reach, knows commands by name, takes nothing of a command from outside, and ends with the server. Each program runs as its own user, in a process group of its own, with a bound on time and output; where the
//! kernel has Landlock, the helper and all that it starts can execute the configured programs, what interprets and links them, and `also-run`, and nothing else.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use landlock::{AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr};
use nix::unistd::{Uid, User};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use waypost_config::Config;

/// Octets of a request's first line.
const HEAD_BYTES_MAX: u64 = 8 * 1024;
/// How often a program is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Where the dynamic loader is, which the kernel executes for every program that is not static.
const LOADERS: &[&str] = &["/lib", "/lib64", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu"];

/// The socket of a site's helper.
pub(crate) fn socket(config: &Config) -> Option<PathBuf> {
    (!config.pipes.is_empty()).then(|| config.data.join("pipes.sock"))
}

/// Starts the helper if there is anything to run. Call it before privileges are given up, and keep what it gives: the helper ends when that is dropped, or with this process.
pub(crate) fn start(config: &Config) -> Result<Option<Child>> {
    let Some(path) = socket(config) else { return Ok(None) };
    let mut specs = Vec::new();
    for pipe in &config.pipes {
        let user = match &pipe.user {
            Some(name) => {
                let found = User::from_name(name).context("cannot look users up")?;
                let Some(user) = found else { bail!("`pipe.{}.user`: there is no user {name}", pipe.name) };
                if !Uid::effective().is_root() && user.uid != Uid::effective() {
                    bail!(
                        "`pipe.{}.user`: only a server that is started as root can run programs as {name}",
                        pipe.name
                    );
                }
                Some((user.uid.as_raw(), user.gid.as_raw()))
            }
            None if Uid::effective().is_root() => {
                bail!(
                    "`pipe.{}.user`: say whose power the program has, such as user = \"nobody\"; never root's",
                    pipe.name
                )
            }
            None => None,
        };
        if user.is_some_and(|(uid, _)| uid == 0) {
            bail!("`pipe.{}.user`: programs do not run as root", pipe.name);
        }
        specs.push(json!({
            "name": pipe.name, "command": pipe.command, "uid": user.map(|(uid, _)| uid), "gid": user.map(|(_, gid)| gid),
            "seconds": pipe.timeout.as_secs(), "output": pipe.output, "also_run": pipe.also_run,
        }));
    }
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
    let program = std::env::current_exe().context("the program's own path")?;
    let helper = Command::new(program)
        .arg("pipe-helper")
        .arg(Value::from(specs).to_string())
        .env_clear()
        // It ends with us. (A signal at our death would not reach it: it may be root's, and we are not any more.)
        .stdin(Stdio::piped())
        .stdout(Stdio::from(OwnedFd::from(listener)))
        .spawn();
    helper.map(Some).context("cannot start the helper that runs programs")
}

/// One configured program.
struct Spec {
    name: String,
    command: Vec<String>,
    user: Option<(u32, u32)>,
    time_max: Duration,
    output_max: usize,
}

/// The helper's life.
pub(crate) fn help(specs: &str) -> Result<()> {
    let listener = UnixListener::from(io::stdout().as_fd().try_clone_to_owned().context("no socket")?);
    let specs: Value = serde_json::from_str(specs).context("the programs")?;
    confine(&specs).context("cannot be confined")?;
    std::thread::spawn(|| {
        // The other end is the server's: it closes when the server ends, however that comes.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let spec = |it: &Value| Spec {
        name: text(&it["name"]),
        command: it["command"].as_array().into_iter().flatten().map(text).collect(),
        user: number(&it["uid"]).zip(number(&it["gid"])),
        time_max: Duration::from_secs(it["seconds"].as_u64().unwrap_or(60)),
        output_max: it["output"].as_u64().unwrap_or(4096) as usize,
    };
    let specs: Arc<Vec<Spec>> = Arc::new(specs.as_array().into_iter().flatten().map(spec).collect());
    for stream in listener.incoming() {
        let (Ok(stream), specs) = (stream, specs.clone()) else { continue };
        std::thread::spawn(move || serve(stream, &specs));
    }
    Ok(())
}

/// From here on nothing else can be executed, by us or by what we start.
fn confine(specs: &Value) -> Result<()> {
    let mut files: Vec<PathBuf> = LOADERS.iter().flat_map(|folder| loaders(Path::new(folder))).collect();
    for spec in specs.as_array().into_iter().flatten() {
        let program = PathBuf::from(spec["command"][0].as_str().unwrap_or_default());
        files.extend(interpreter(&program));
        files.push(program);
        files.extend(spec["also_run"].as_array().into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from));
    }
    let execute = AccessFs::Execute;
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(execute)?.create()?;
    for file in files.iter().filter(|file| file.exists()) {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(file)?, execute))?;
    }
    rules.restrict_self()?;
    Ok(())
}

fn loaders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("ld-")).map(|entry| entry.path()).collect()
}

/// What a script names in its first line.
fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut line = String::new();
    BufReader::new(fs::File::open(program).ok()?.take(256)).read_line(&mut line).ok()?;
    let name = line.strip_prefix("#!")?.split_whitespace().next()?;
    fs::canonicalize(name).ok()
}

fn serve(stream: UnixStream, specs: &[Spec]) {
    let Ok(mut answer_to) = stream.try_clone() else { return };
    let answer = match request(stream, specs) {
        Ok(answer) => answer,
        Err(error) => json!({ "error": error.to_string() }),
    };
    // A server that has gone needs no answer.
    let _ = writeln!(answer_to, "{answer}");
}

fn request(stream: UnixStream, specs: &[Spec]) -> Result<Value> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.by_ref().take(HEAD_BYTES_MAX).read_line(&mut line)?;
    let head: Value = serde_json::from_str(&line).context("the request")?;
    let name = head["name"].as_str().unwrap_or_default();
    let Some(spec) = specs.iter().find(|spec| spec.name == name) else { bail!("there is no [pipe.{name}]") };
    let Some((program, arguments)) = spec.command.split_first() else { bail!("[pipe.{name}] has no command") };
    let text = |field: &str| clean(head[field].as_str().unwrap_or_default());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("SENDER", text("sender"))
        .env("RECIPIENT", text("recipient"))
        .env("QUEUE_ID", text("id"))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some((uid, gid)) = spec.user {
        // Further groups go with the user id.
        command.gid(gid).uid(uid);
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(json!({ "status": 127, "said": format!("{program}: {error}") })),
    };
    Ok(attend(child, reader.take(head["octets"].as_u64().unwrap_or(0)), spec))
}

/// An address is data: it may hold no line ends all the same.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Feeds a program, hears it, and ends it when its time is over.
fn attend(mut child: Child, mut message: impl Read + Send, spec: &Spec) -> Value {
    let group = Pid::from_child(&child);
    let deadline = Instant::now() + spec.time_max;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not want all of it ends the pipe, and its status says the rest.
            let copied = input.map(|mut input| io::copy(&mut message, &mut input));
            drop(copied);
            let _ = io::copy(&mut message, &mut io::sink());
        });
        let output = scope.spawn(move || output.map(|pipe| hear(pipe, spec.output_max)).unwrap_or_default());
        let errors = scope.spawn(move || errors.map(|pipe| hear(pipe, spec.output_max)).unwrap_or_default());
        let ended = wait(&mut child, deadline);
        // Whatever it has left running ends, too; it would keep the pipes open.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait();
        let said = [errors.join().unwrap_or_default(), output.join().unwrap_or_default()].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        match ended {
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => json!({ "status": code, "said": said }),
                (None, signal) => {
                    json!({ "error": format!("the program was ended by signal {}", signal.unwrap_or(0)), "said": said })
                }
            },
            None => {
                json!({ "error": format!("the program was ended after {} s", spec.time_max.as_secs()), "said": said })
            }
        }
    })
}

fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Keeps the first octets, reads the rest.
fn hear(mut pipe: impl Read, output_max: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = pipe.by_ref().take(output_max as u64).read_to_end(&mut kept);
    let _ = io::copy(&mut pipe, &mut io::sink());
    kept
}
