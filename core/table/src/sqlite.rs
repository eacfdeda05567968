//! A table in an SQLite file: `SELECT target FROM aliases WHERE address = ?1`.
//!
//! The file is opened read-only and asked on the runtime's blocking threads; several questions at once have a connection each. The
//! statement is prepared when the table is opened, so that a wrong one is a mistake at the start and not at the first mail. What it gives
//! in several rows is joined by commas, as Postfix does. The key is in lower case and is bound, never pasted into the statement.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use waypost_types::Soon;
use waypost_types::port::{Found, Table, TableError};

use crate::{failed, folded};

/// Connections that are kept.
const KEPT_MAX: usize = 8;
/// Rows of one answer.
const ROWS_MAX: usize = 10_000;
/// Octets of one answer.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 1000;

/// Where to ask, and what.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file.
    pub file: PathBuf,
    /// One SELECT with one column; `?1` is the key.
    pub query: String,
    /// For one question.
    pub timeout: Duration,
}

/// The table.
#[derive(Debug)]
pub struct SqliteTable {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    options: SqliteOptions,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteTable {
    /// Opens the file and tries the statement. Blocking. The error says what to mend.
    pub fn open(name: &str, options: SqliteOptions) -> Result<SqliteTable, TableError> {
        let connection = connect(&options.file).map_err(|error| failed(name, error))?;
        check(&connection, &options.query).map_err(|problem| failed(name, problem))?;
        let shared = Shared { name: name.to_string(), options, idle: Mutex::new(vec![connection]) };
        Ok(SqliteTable { shared: Arc::new(shared) })
    }
}

impl Table for SqliteTable {
    fn lookup<'a>(&'a self, key: &'a str) -> Soon<'a, Found<'a>> {
        let (shared, key) = (self.shared.clone(), folded(key));
        Soon::Later(Box::pin(async move {
            let asked = tokio::task::spawn_blocking({
                let shared = shared.clone();
                move || shared.ask(&key)
            });
            // The deadline inside ends the work; this one ends the wait when no thread is free.
            let deadline = shared.options.timeout + Duration::from_millis(100);
            match tokio::time::timeout(deadline, asked).await {
                Ok(Ok(answer)) => answer.map(|value| value.map(Cow::Owned)),
                Ok(Err(error)) => Err(failed(&shared.name, error)),
                Err(_) => Err(failed(&shared.name, "no answer in time")),
            }
        }))
    }
}

impl Shared {
    fn ask(&self, key: &str) -> Result<Option<String>, TableError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let fresh = || connect(&self.options.file);
        let mut connection = kept.map_or_else(fresh, Ok).map_err(|error| failed(&self.name, error))?;
        let answer = ask(&mut connection, &self.options, key);
        if answer.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < KEPT_MAX {
                idle.push(connection);
            }
        }
        answer.map_err(|error| failed(&self.name, error))
    }
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    Ok(connection)
}

fn check(connection: &Connection, query: &str) -> Result<(), String> {
    let statement = connection.prepare(query).map_err(|error| error.to_string())?;
    if !statement.readonly() {
        return Err("the query changes the file: write a SELECT".to_string());
    }
    if statement.parameter_count() != 1 {
        return Err(format!(
            "the query has {} places for a key: write one ?1, without quotes",
            statement.parameter_count()
        ));
    }
    if statement.column_count() != 1 {
        return Err(format!("the query gives {} columns: name the one that holds the value", statement.column_count()));
    }
    Ok(())
}

fn ask(connection: &mut Connection, options: &SqliteOptions, key: &str) -> rusqlite::Result<Option<String>> {
    let until = Instant::now() + options.timeout;
    connection.progress_handler(STEPS, Some(move || Instant::now() >= until))?;
    let mut statement = connection.prepare_cached(&options.query)?;
    let mut rows = statement.query([key])?;
    let mut value: Option<String> = None;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let Some(text) = text(row.get_ref(0)?)? else { continue };
        count += 1;
        let value = match &mut value {
            None => value.insert(text.into_owned()),
            Some(value) => {
                value.push(',');
                value.push_str(&text);
                value
            }
        };
        if count > ROWS_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(rusqlite::Error::InvalidColumnType(
                0,
                "too large an answer".into(),
                rusqlite::types::Type::Text,
            ));
        }
    }
    Ok(value)
}

/// A value as text; NULL is none.
fn text(value: ValueRef<'_>) -> rusqlite::Result<Option<Cow<'_, str>>> {
    Ok(match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(Cow::Owned(number.to_string())),
        ValueRef::Real(number) => Some(Cow::Owned(number.to_string())),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(Cow::Borrowed(std::str::from_utf8(bytes).map_err(|error| rusqlite::Error::Utf8Error(0, error))?))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sql: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = Connection::open(folder.path().join("db")).expect("made");
        connection.execute_batch(sql).expect("filled");
        folder
    }

    fn open(folder: &tempfile::TempDir, query: &str) -> Result<SqliteTable, TableError> {
        let timeout = Duration::from_secs(2);
        SqliteTable::open("people", SqliteOptions { file: folder.path().join("db"), query: query.to_string(), timeout })
    }

    const SQL: &str = "CREATE TABLE a (k TEXT, v TEXT); INSERT INTO a VALUES ('x@y.test', 'one'), ('x@y.test', 'two'), ('n', NULL), ('o''b', 'quoted');";
    const QUERY: &str = "SELECT v FROM a WHERE k = ?1";

    #[tokio::test]
    async fn rows_are_joined_and_keys_are_never_pasted_in() {
        let folder = file(SQL);
        let table = open(&folder, QUERY).expect("good");
        let find = async |key: &str| table.lookup(key).get().await.expect("an answer").map(Cow::into_owned);
        assert_eq!(find("X@Y.test").await.as_deref(), Some("one,two"));
        assert_eq!(find("n").await, None);
        assert_eq!(find("o'b").await.as_deref(), Some("quoted"));
        assert_eq!(find("' OR 1=1 --").await, None);
        assert!(!table.is_in_memory());
    }

    #[tokio::test]
    async fn what_changes_in_the_file_is_seen_and_a_file_that_breaks_is_an_error() {
        let folder = file(SQL);
        let table = open(&folder, QUERY).expect("good");
        Connection::open(folder.path().join("db")).unwrap().execute_batch("UPDATE a SET v = 'three'").expect("changed");
        assert_eq!(table.lookup("x@y.test").get().await.unwrap().as_deref(), Some("three,three"));
        Connection::open(folder.path().join("db")).unwrap().execute_batch("DROP TABLE a").expect("dropped");
        let error = table.lookup("x@y.test").get().await.expect_err("no table");
        assert!(error.0.starts_with("table people: ") && error.0.contains("no such table"), "{error}");
    }

    #[tokio::test]
    async fn a_question_without_end_has_a_deadline() {
        let folder = file(SQL);
        let query = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT max(n) FROM c WHERE ?1 <> ''";
        let options = SqliteOptions {
            file: folder.path().join("db"),
            query: query.to_string(),
            timeout: Duration::from_millis(200),
        };
        let table = SqliteTable::open("slow", options).expect("it prepares");
        let begun = Instant::now();
        assert!(table.lookup("k").get().await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn what_cannot_work_is_told_at_the_start() {
        let folder = file(SQL);
        for (query, problem) in [
            ("SELECT v FROM b WHERE k = ?1", "no such table"),
            ("SELECT v, k FROM a WHERE k = ?1", "2 columns"),
            ("SELECT v FROM a WHERE k = '%s'", "0 places"),
            ("DELETE FROM a WHERE k = ?1", "SELECT"),
        ] {
            let error = open(&folder, query).expect_err(query);
            assert!(error.0.contains(problem), "{query}: {error}");
        }
        assert!(open(&tempfile::tempdir().unwrap(), QUERY).is_err(), "there is no file, and none is made");
    }
}
