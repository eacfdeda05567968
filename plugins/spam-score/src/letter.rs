//! The header block, read once: what rules ask for again and again.

use crate::encoded;

/// A header block.
pub struct Headers {
    fields: Vec<(String, String)>,
}

/// Fields that are looked at.
const FIELDS_MAX: usize = 500;

impl Headers {
    /// Reads a block as it stands in the message: names lowered, values unfolded.
    pub fn parse(block: &[u8]) -> Headers {
        let text = String::from_utf8_lossy(block);
        let mut fields: Vec<(String, String)> = Vec::with_capacity(32);
        for line in text.split("\r\n") {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':').filter(|_| fields.len() < FIELDS_MAX) {
                fields.push((name.trim_end().to_ascii_lowercase(), value.trim().to_string()));
            }
        }
        Headers { fields }
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a field.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_string();
        self.fields.iter().filter(move |(there, _)| *there == name).map(|(_, value)| value.as_str())
    }

    /// How often a field stands there.
    pub fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(there, _)| there == name).count()
    }

    /// Whether a field stands there.
    pub fn has(&self, name: &str) -> bool {
        self.count(name) > 0
    }

    /// The first value with encoded words decoded.
    pub fn decoded(&self, name: &str) -> String {
        self.get(name).map(encoded::decode).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Headers;

    #[test]
    fn fields_are_unfolded() {
        let headers = Headers::parse(b"Subject: a\r\n  b\r\nFROM: x\r\nfrom:y\r\nnonsense\r\n");
        assert_eq!(headers.get("subject"), Some("a b"));
        assert_eq!(headers.count("from"), 2);
        assert!(!headers.has("nonsense"));
    }
}
