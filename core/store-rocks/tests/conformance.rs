//! The promises of `queue::Store`, kept by RocksDB. A restart after a crash is a copy of the folder taken while the store is open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use waypost_queue::Store;
use waypost_queue::conformance::Harness;
use waypost_store_rocks::{Options, RocksStore};
use waypost_types::event::Deaf;

struct Rocks {
    folder: TempDir,
    opened: u32,
}

impl Rocks {
    fn new() -> Rocks {
        Rocks { folder: TempDir::new().unwrap(), opened: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(self.opened.to_string())
    }

    fn open_here(&self) -> Arc<dyn Store> {
        let options = Options { chunk_bytes: 64 * 1024, message_bytes_max: 4 << 20, ..Options::new(self.path()) };
        Arc::new(RocksStore::open(options, Arc::new(Deaf)).unwrap())
    }
}

impl Harness for Rocks {
    async fn open(&mut self) -> Arc<dyn Store> {
        self.opened += 1;
        self.open_here()
    }

    async fn reopen(&mut self) -> Option<Arc<dyn Store>> {
        let before = self.path();
        self.opened += 1;
        copy(&before, &self.path());
        Some(self.open_here())
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

waypost_queue::conformance_tests!(run, Rocks::new());
