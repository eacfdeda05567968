//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;

/// Where something is said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file, by line and column from 1.
    File {
        /// As the operator named it.
        name: String,
        /// From 1.
        line: u32,
        /// In characters, from 1.
        column: u32,
    },
    /// In a `--set`, with its text.
    Override(String),
    /// Nowhere: it is a default.
    Default,
}

impl Place {
    pub(crate) fn file(name: &str, line: u32, column: u32) -> Place {
        Place::File { name: name.to_string(), line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Place::Override(text) => write!(f, "--set {text}"),
            Place::Default => f.write_str("default"),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl Mistake {
    pub(crate) fn new(place: Place, problem: impl Into<String>, remedy: impl Into<String>) -> Mistake {
        Mistake { place, problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    {}", self.place, self.problem, self.remedy)
    }
}

/// Every mistake of a configuration, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.0 {
            writeln!(f, "{mistake}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 mistake"),
            count => write!(f, "{count} mistakes"),
        }
    }
}

impl std::error::Error for Mistakes {}

/// The candidate nearest to `word`, if it is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (word.chars().count() / 3).clamp(1, 3);
    let near = |candidate: &&str| distance(word, candidate) <= bound || is_part(word, candidate);
    candidates.into_iter().filter(near).min_by_key(|candidate| distance(word, candidate))
}

/// Whether one is the other with something in front or behind (`cert` and `certificate`).
fn is_part(word: &str, candidate: &str) -> bool {
    word.len() >= 3 && (candidate.starts_with(word) || candidate.ends_with(word) || word.starts_with(candidate))
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let fold = |text: &str| text.to_lowercase().replace('_', "-").chars().collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_find_what_was_meant() {
        let known = ["hostname", "lifetime", "certificate", "bind"];
        for (word, meant) in
            [("hostnmae", "hostname"), ("life_time", "lifetime"), ("cert", "certificate"), ("Bind", "bind")]
        {
            assert_eq!(nearest(word, known), Some(meant), "{word}");
        }
        assert_eq!(nearest("zzz", known), None);
    }

    #[test]
    fn a_mistake_reads_as_a_compiler_would_say_it() {
        let mistake = Mistake::new(Place::file("w.toml", 3, 1), "unknown setting `bnid`", "did you mean `bind`?");
        assert_eq!(mistake.to_string(), "w.toml:3:1: unknown setting `bnid`\n    did you mean `bind`?");
    }
}
