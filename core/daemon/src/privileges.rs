//! Less power than it was started with: another user, no way back, nothing written outside its own folders, no system call that a mail server
//! has no use for.
//!
//! Ports are bound before; everything else, certificates too, is read afterwards, so that a file which a later reload could not read is said
//! at the start. All of it happens while the process has one thread: what the kernel keeps per thread is then inherited by all.
//!
//! * user and groups: `security.user`, changed only when started as root;
//! * Landlock (Linux 5.13): writing, making, renaming and removing only beneath the folders of the configuration, running programs nowhere;
//! * seccomp: a list of what is refused with EPERM, not of what is allowed, for the C library's choice of calls changes with its versions.
//!
//! A kernel that lacks one of the two is no reason not to start; what is in force is told.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use nix::unistd::{Gid, Uid, User, initgroups, setgid, setuid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use waypost_config::Config;

/// The user that is taken when nothing is said and there is one of this name.
const USUAL: &str = "waypost";

/// What is in force, for the log.
pub(crate) struct InForce {
    /// A line about it.
    pub(crate) text: String,
    /// What it lacks, and the setting that mends it; empty if nothing.
    pub(crate) lacks: Vec<&'static str>,
}

/// Gives up everything that is not needed any more. After it the process is another user. `before` is called when it is that user, and may
/// still run programs.
pub(crate) fn give_up(config: &Config, before: impl FnOnce()) -> Result<InForce> {
    let become_whom = whom(config)?;
    if let Some(user) = &become_whom {
        let folders = [&config.data, &config.users.mail];
        for folder in folders {
            hand_over(folder, user).with_context(|| format!("cannot give {} to {}", folder.display(), user.name))?;
        }
        change_user(user).with_context(|| format!("cannot become user {}", user.name))?;
    }
    before();
    let mut parts = vec![format!("user {}", name_of(Uid::effective()))];
    let mut lacks = Vec::new();
    if Uid::effective().is_root() {
        lacks.push("it is root: set `security.user`");
    }
    if config.confine {
        let written = write_only_beneath(&places(config))?;
        refuse_calls().context("cannot filter system calls; `security.confine = false` does without")?;
        parts.push(if written { "Landlock".into() } else { "no Landlock (the kernel has none)".into() });
        parts.push("seccomp".into());
    } else {
        parts.push("not confined".into());
        lacks.push("it may write anywhere and call anything: set `security.confine`");
    }
    Ok(InForce { text: parts.join(", "), lacks })
}

/// Files that a command of root's makes belong to whoever the folder belongs to: the server must be able to read them.
pub(crate) fn match_owner(file: &Path) -> io::Result<()> {
    let Some(folder) = file.parent().filter(|_| Uid::effective().is_root()) else { return Ok(()) };
    let owner = fs::metadata(folder)?;
    lchown(file, Some(owner.uid()), Some(owner.gid()))
}

/// The user to become; none if we are not root, or if there is none to become.
fn whom(config: &Config) -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let named = config.user.as_deref();
    match User::from_name(named.unwrap_or(USUAL)).context("cannot look users up")? {
        Some(user) if user.uid.is_root() => Ok(None),
        Some(user) => Ok(Some(user)),
        None if named.is_none() => Ok(None),
        None => bail!(
            "`security.user` names {}, and there is no such user: make it with `useradd --system {0}`",
            named.unwrap_or(USUAL)
        ),
    }
}

fn name_of(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// What root made in our folders belongs to the user from here on. What belongs to others is left alone.
fn hand_over(path: &Path, user: &User) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.uid() == 0 {
        lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), user)?;
        }
    }
    Ok(())
}

/// Groups first: afterwards it is not allowed any more.
fn change_user(user: &User) -> Result<()> {
    let name = std::ffi::CString::new(user.name.as_str())?;
    initgroups(&name, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    let group_of_root = user.gid.as_raw() == 0;
    if setuid(Uid::from_raw(0)).is_ok() || (!group_of_root && setgid(Gid::from_raw(0)).is_ok()) {
        bail!("root could be had again");
    }
    Ok(())
}

/// Where we write.
fn places(config: &Config) -> Vec<PathBuf> {
    let users = config.users.file.parent().map(Path::to_path_buf);
    [Some(config.data.clone()), Some(config.users.mail.clone()), users].into_iter().flatten().collect()
}

/// False: the kernel cannot do it. Where it knows only a part, that part is in force.
fn write_only_beneath(folders: &[PathBuf]) -> Result<bool> {
    let known = ABI::V5;
    let writing = AccessFs::from_write(known) | AccessFs::Execute;
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(writing)?.create()?;
    for folder in folders.iter().filter(|folder| folder.exists()) {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(folder)?, AccessFs::from_write(known)))?;
    }
    for device in ["/dev/null", "/dev/tty", "/proc/self"].iter().filter(|path| Path::new(path).exists()) {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(device)?, AccessFs::WriteFile))?;
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Calls that take a server over, or the machine: running programs, other processes' memory, mounts, modules, clocks, keys, other users.
const REFUSED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_quotactl,
    libc::SYS_open_by_handle_at,
    libc::SYS_userfaultfd,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
];

fn refuse_calls() -> Result<()> {
    let rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}
