//! File systems of our own: ext4 on a loop file, and small tmpfs. Unmounted when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use waypost_tests::{say_aloud, tool};

/// A mounted file system.
pub(crate) struct Disk {
    own: TempDir,
    loop_file: bool,
}

impl Disk {
    /// ext4 on a file, with a journal that commits by itself every five minutes only: what is on it sooner was synced. `None`, said aloud,
    /// where this machine does not let us mount.
    pub(crate) fn ext4(mib: u32) -> Option<Disk> {
        let disk = Disk { own: TempDir::new().expect("a temporary folder"), loop_file: true };
        let image = disk.image();
        tool::succeed("truncate", &["-s", &format!("{mib}M"), &image.to_string_lossy()]);
        tool::succeed("mkfs.ext4", &["-q", "-F", &image.to_string_lossy()]);
        disk.mount()
    }

    /// A tmpfs of this size.
    pub(crate) fn tmpfs(mib: u32, inodes: u32) -> Option<Disk> {
        let disk = Disk { own: TempDir::new().expect("a temporary folder"), loop_file: false };
        std::fs::create_dir(disk.path()).expect("a folder to mount at");
        let options = format!("size={mib}m,nr_inodes={inodes}");
        disk.mounted(&["-t", "tmpfs", "-o", &options, "none"])
    }

    fn mount(self) -> Option<Disk> {
        std::fs::create_dir_all(self.path()).expect("a folder to mount at");
        let image = self.image();
        self.mounted(&["-o", "loop,commit=300,noatime", &image.to_string_lossy()])
    }

    fn mounted(self, arguments: &[&str]) -> Option<Disk> {
        let mut command = Command::new("mount");
        let output = command.args(arguments).arg(self.path()).output().expect("mount is there");
        if output.status.success() {
            return Some(self);
        }
        say_aloud(&format!("NOT TESTED: cannot mount here: {}", String::from_utf8_lossy(&output.stderr).trim()));
        None
    }

    fn image(&self) -> PathBuf {
        self.own.path().join("image")
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.own.path().join("mounted")
    }

    /// The disk as a power cut at this moment would leave it, mounted anew: what the file system had not written is lost.
    pub(crate) fn after_power_cut(&self) -> Disk {
        let copy = Disk { own: TempDir::new().expect("a temporary folder"), loop_file: true };
        let (from, to) = (self.image(), copy.image());
        tool::succeed("cp", &["--sparse=always", &from.to_string_lossy(), &to.to_string_lossy()]);
        copy.mount().expect("what could be mounted once can be mounted again")
    }

    /// Free KiB and inodes.
    pub(crate) fn free(&self) -> (u64, u64) {
        let text = tool::succeed("df", &["-k", "--output=avail,iavail", &self.path().to_string_lossy()]);
        let mut numbers = text.lines().nth(1).expect("a line behind the heading").split_whitespace().map(|n| n.parse());
        let mut next = || numbers.next().expect("two columns").expect("a number");
        (next(), next())
    }

    /// Takes room until so many KiB are left; gives the file.
    pub(crate) fn fill(&self, kib_left: u64) -> PathBuf {
        let file = self.path().join("filler");
        let (free, _) = self.free();
        let length = format!("{}K", free.checked_sub(kib_left).expect("there is more room than that"));
        tool::succeed("fallocate", &["-l", &length, &file.to_string_lossy()]);
        file
    }

    /// Takes inodes until so many are left; gives their folder.
    pub(crate) fn fill_inodes(&self, left: u64) -> PathBuf {
        let folder = self.path().join("fillers");
        std::fs::create_dir(&folder).expect("there is room for a folder");
        let (_, free) = self.free();
        (left..free).for_each(|n| drop(std::fs::File::create(folder.join(n.to_string())).expect("an inode is left")));
        folder
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.path(), self.loop_file);
    }
}

fn unmount(path: &Path, lazily: bool) {
    let mut command = Command::new("umount");
    if lazily {
        command.arg("-l");
    }
    let _ = command.arg(path).output();
}
