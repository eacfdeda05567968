//! From a component to machine code, once: the cache of compiled code.
//!
//! Compiled code is trusted by the process that maps it (wasmtime takes 39 of 40 files with one octet changed), so a cached file
//! is authenticated before it is looked at: HMAC-SHA-256 with a secret that was made for this installation and is readable by
//! its user alone, over the name and the content. The name is a digest of the component and of everything that makes compiled
//! code fit an engine. What does not verify is compiled again and written anew: to a temporary file, synced, then renamed, so
//! that a file is never changed in place.
//!
//! Cranelift needs some eighty megabytes for a plugin of ordinary size, and an allocator gives back little of what was used once: a server
//! can ask what is [`missing`](Cache::missing) when it starts, and let a process of its own compile that.
//!
//! This is the one page of the crate with an `unsafe` block: deserialising native code cannot be safe for the type system.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::{digest, hmac, rand};
use wasmtime::Engine;
use wasmtime::component::Component;

const TAG_LEN: usize = 32;
const SECRET_LEN: usize = 32;

/// Where compiled code is kept.
pub(crate) struct Cache {
    dir: Option<PathBuf>,
    key: hmac::Key,
    secret: [u8; SECRET_LEN],
}

/// Where a component's code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the cache.
    Cached,
    /// Compiled now: there was no cached code.
    Compiled,
    /// Compiled now: the cached code did not verify.
    Refused,
}

impl Cache {
    /// Opens the cache, making folder and secret if need be. Without a folder nothing is kept.
    pub(crate) fn open(dir: Option<&Path>) -> io::Result<Cache> {
        let secret = match dir {
            Some(dir) => {
                make_private(dir)?;
                read_secret(dir)?
            }
            None => fresh_secret(),
        };
        Ok(Cache { dir: dir.map(Path::to_path_buf), key: hmac::Key::new(hmac::HMAC_SHA256, &secret), secret })
    }

    /// A key for another purpose, derived from the installation's secret.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        let tag = hmac::sign(&key, format!("waypost derive\0{purpose}").as_bytes());
        tag.as_ref().try_into().expect("SHA-256 has 32 octets")
    }

    /// The compiled component. A cache that cannot be written is no reason to fail: the second value tells.
    pub(crate) fn compile(&self, engine: &Engine, wasm: &[u8]) -> Result<(Component, Origin), String> {
        let Some(dir) = &self.dir else {
            return Ok((compile(engine, wasm)?, Origin::Compiled));
        };
        let name = file_name(engine, wasm);
        let path = dir.join(&name);
        let origin = match fs::read(&path) {
            Ok(sealed) => match self.unseal(&name, &sealed).and_then(|code| deserialize(engine, code)) {
                Some(component) => return Ok((component, Origin::Cached)),
                None => Origin::Refused,
            },
            Err(_) => Origin::Compiled,
        };
        let component = compile(engine, wasm)?;
        // Best effort: the next start compiles again.
        let _ = component.serialize().map_err(io::Error::other).and_then(|code| self.write(dir, &name, &code));
        Ok((component, origin))
    }

    /// Whether there is compiled code for a component. It is not verified.
    pub(crate) fn missing(&self, engine: &Engine, wasm: &[u8]) -> bool {
        self.dir.as_ref().is_none_or(|dir| !dir.join(file_name(engine, wasm)).exists())
    }

    /// The content behind a valid seal.
    fn unseal<'a>(&self, name: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
        let (tag, code) = sealed.split_at_checked(TAG_LEN)?;
        (aws_lc_rs::constant_time::verify_slices_are_equal(self.seal(name, code).as_ref(), tag).is_ok()).then_some(code)
    }

    fn seal(&self, name: &str, code: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"waypost compiled component\0");
        context.update(name.as_bytes());
        context.update(b"\0");
        context.update(code);
        context.sign()
    }

    fn write(&self, dir: &Path, name: &str, code: &[u8]) -> io::Result<()> {
        let mut content = Vec::with_capacity(TAG_LEN + code.len());
        content.extend_from_slice(self.seal(name, code).as_ref());
        content.extend_from_slice(code);
        write_whole(dir, name, &content)
    }
}

fn compile(engine: &Engine, wasm: &[u8]) -> Result<Component, String> {
    Component::from_binary(engine, wasm).map_err(|error| format!("{error:#}"))
}

/// The component in `code`, unless it was made for another engine or processor.
#[allow(unsafe_code)]
fn deserialize(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: `deserialize` must only see what `Component::serialize` wrote. Its only caller has just verified the HMAC of these
    // very octets (they are in our memory, nobody can change them in between), made with a secret that only this user's
    // processes can read, by `Cache::write`, which seals nothing but the output of `serialize`.
    unsafe { Component::deserialize(engine, code) }.ok()
}

/// Digest of the component and of what compiled code depends on.
fn file_name(engine: &Engine, wasm: &[u8]) -> String {
    let mut fit = Fingerprint(digest::Context::new(&digest::SHA256));
    engine.precompile_compatibility_hash().hash(&mut fit);
    fit.0.update(wasm);
    let digest = fit.0.finish();
    let mut name: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    name.push_str(".cwasm");
    name
}

/// Feeds what is hashed into SHA-256.
struct Fingerprint(digest::Context);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("only the digest is taken")
    }
}

/// Makes the folder with mode 0700, or refuses one that others can write to.
fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mode = fs::metadata(dir)?.permissions().mode();
    if mode & 0o022 != 0 {
        let problem = format!("{} can be written to by others (mode {:o}): chmod 700 it", dir.display(), mode & 0o777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    Ok(())
}

/// The installation's secret; made at the first start, and again when it does not have the right length. Of two processes
/// that start at the same time one makes it and both read it.
fn read_secret(dir: &Path) -> io::Result<[u8; SECRET_LEN]> {
    if let Some(secret) = stored_secret(dir)? {
        return Ok(secret);
    }
    let fresh = format!("secret.{:016x}", entropy());
    write_whole(dir, &fresh, &fresh_secret())?;
    let linked = fs::hard_link(dir.join(&fresh), dir.join("secret"));
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && stored_secret(dir)?.is_none() => {
            fs::rename(dir.join(&fresh), dir.join("secret"))?;
        }
        _ => fs::remove_file(dir.join(&fresh))?,
    }
    stored_secret(dir)?.ok_or_else(|| io::Error::other("the secret that was just written cannot be read back"))
}

fn stored_secret(dir: &Path) -> io::Result<Option<[u8; SECRET_LEN]>> {
    let mut file = match File::open(dir.join("secret")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut secret = Vec::new();
    Read::by_ref(&mut file).take(SECRET_LEN as u64 + 1).read_to_end(&mut secret)?;
    Ok(secret.try_into().ok())
}

fn fresh_secret() -> [u8; SECRET_LEN] {
    let mut secret = [0; SECRET_LEN];
    rand::fill(&mut secret).expect("the operating system gives randomness");
    secret
}

/// Writes, syncs, renames, syncs the folder.
fn write_whole(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.{}.{:016x}", std::process::id(), entropy()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(name))?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn entropy() -> u64 {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).expect("the operating system gives randomness");
    u64::from_ne_bytes(bytes)
}
