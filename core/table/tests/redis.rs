//! Against a real Redis on a socket of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use waypost_table::{RedisOptions, RedisTable};
use waypost_types::port::Table;

struct Redis {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    fn start(password: Option<&str>) -> Redis {
        let folder = tempfile::tempdir().expect("a folder");
        let redis = Redis { child: spawn(folder.path(), password), folder };
        redis.wait();
        redis
    }

    fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.folder.path().join("sock"));
        self.child = spawn(self.folder.path(), None);
        self.wait();
    }

    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(self.folder.path().join("sock")).is_err() {
            assert!(Instant::now() < end, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn options(&self) -> RedisOptions {
        RedisOptions {
            server: self.folder.path().join("sock").display().to_string(),
            user: None,
            password: None,
            database: 3,
            prefix: "alias:".into(),
            timeout: Duration::from_secs(5),
        }
    }

    fn say(&self, words: &[&str]) {
        let socket = self.folder.path().join("sock");
        let done =
            Command::new("redis-cli").arg("-s").arg(socket).args(words).output().expect("redis-cli is installed");
        assert!(done.status.success());
    }
}

fn spawn(folder: &Path, password: Option<&str>) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(folder.join("sock"));
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    command.arg("--dir").arg(folder).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed: core/daemon/setup.sh test")
}

#[tokio::test]
async fn values_are_found_by_prefix_and_key_in_any_case_and_a_lost_connection_is_made_anew() {
    let mut redis = Redis::start(None);
    redis.say(&["-n", "3", "SET", "alias:info@a.test", "alice@a.test, bob"]);
    let table = RedisTable::new("aliases", redis.options());
    let find = async |table: &RedisTable, key: &str| {
        table.lookup(key).get().await.expect("an answer").map(|value| value.into_owned())
    };
    assert_eq!(find(&table, "Info@A.test").await.as_deref(), Some("alice@a.test, bob"));
    assert_eq!(find(&table, "other@a.test").await, None);
    redis.restart();
    assert_eq!(find(&table, "info@a.test").await, None, "it is empty now, and the kept connection was dead");
}

#[tokio::test]
async fn who_does_not_answer_or_says_no_is_an_error_and_never_an_empty_answer() {
    let redis = Redis::start(Some("secret"));
    let table = RedisTable::new("aliases", redis.options());
    let error = table.lookup("a").get().await.expect_err("it wants a password");
    assert!(error.0.contains("table aliases: NOAUTH"), "{error}");
    let table = RedisTable::new("aliases", RedisOptions { password: Some("secret".into()), ..redis.options() });
    assert_eq!(table.lookup("a").get().await, Ok(None));
    let gone = RedisOptions { server: "/nonexistent/sock".into(), ..redis.options() };
    assert!(RedisTable::new("gone", gone).lookup("a").get().await.is_err());
    // Somebody who takes the connection and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = silent.local_addr().expect("bound").to_string();
    let options = RedisOptions { server, timeout: Duration::from_millis(200), database: 0, ..redis.options() };
    let error = RedisTable::new("silent", options).lookup("a").get().await.expect_err("no answer");
    assert!(error.0.contains("in time"), "{error}");
}
