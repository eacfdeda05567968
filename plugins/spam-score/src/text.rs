//! Text as a reader sees it: lowered, blanks squeezed, counted on the way.

/// What is known of a text after one pass.
#[derive(Debug, Default)]
pub struct Text {
    /// Lowered (ASCII), each run of blanks one space.
    pub squeezed: Vec<u8>,
    /// Letters, ASCII only.
    pub letters: usize,
    /// Capitals among them.
    pub capitals: usize,
    /// Exclamation marks.
    pub exclaimed: usize,
    /// Dollar and pound signs before a digit.
    pub amounts: usize,
    /// Octets beyond ASCII.
    pub beyond_ascii: usize,
    /// Whether a line begins with `>`: quoting.
    pub quotes: bool,
    /// Whether a line `-- ` stands there: a signature block.
    pub signed_off: bool,
}

impl Text {
    /// Takes in a plain text part.
    pub fn push_plain(&mut self, part: &[u8]) {
        for line in part.split(|byte| *byte == b'\n') {
            self.quotes |= line.first() == Some(&b'>');
            self.signed_off |= matches!(line, b"-- " | b"-- \r" | b"--" | b"--\r");
            self.push(line);
            self.blank();
        }
    }

    /// Takes in a run of shown text.
    pub fn push(&mut self, run: &[u8]) {
        self.squeezed.reserve(run.len());
        let mut last = self.squeezed.last().copied().unwrap_or(b' ');
        for &byte in run {
            let put = match byte {
                b'a'..=b'z' => {
                    self.letters += 1;
                    byte
                }
                b'A'..=b'Z' => {
                    self.letters += 1;
                    self.capitals += 1;
                    byte | 0x20
                }
                b' ' | b'\t' | b'\r' | b'\n' => {
                    if last == b' ' {
                        continue;
                    }
                    b' '
                }
                b'!' => {
                    self.exclaimed += 1;
                    byte
                }
                b'0'..=b'9' => {
                    self.amounts += usize::from(last == b'$');
                    byte
                }
                0x80.. => {
                    self.beyond_ascii += 1;
                    byte
                }
                _ => byte,
            };
            self.squeezed.push(put);
            last = put;
        }
    }

    /// A word ends here.
    pub fn blank(&mut self) {
        if self.squeezed.last().is_some_and(|last| *last != b' ') {
            self.squeezed.push(b' ');
        }
    }

    /// Octets of text.
    pub fn len(&self) -> usize {
        self.squeezed.len()
    }

    /// Whether nobody can read anything.
    pub fn is_empty(&self) -> bool {
        self.letters == 0 && self.beyond_ascii == 0
    }

    /// Whether the last word is a random one, as put behind a text to make it differ from its copies.
    pub fn ends_in_random_word(&self) -> bool {
        let trimmed = self.squeezed.trim_ascii_end();
        let last = trimmed.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let digits = last.iter().filter(|byte| byte.is_ascii_digit()).count();
        let vowels = last.iter().filter(|byte| matches!(byte, b'a' | b'e' | b'i' | b'o' | b'u' | b'y')).count();
        let plain =
            last.iter().all(u8::is_ascii_alphanumeric) || last.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
        plain
            && (8..=60).contains(&last.len())
            && (digits * 10 >= last.len() * 3 && digits < last.len() || vowels * 8 < last.len() && digits < last.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn text_is_squeezed_and_counted() {
        let mut text = Text::default();
        text.push_plain(b"Hello   WORLD!!\r\n\r\n> quoted $50\r\n-- \r\nme");
        assert_eq!(text.squeezed, b"hello world!! > quoted $50 -- me ");
        assert_eq!((text.letters, text.capitals, text.exclaimed, text.amounts), (18, 6, 2, 1));
        assert!(text.quotes && text.signed_off);
    }

    #[test]
    fn random_words_at_the_end() {
        let ends = |text: &str| {
            let mut it = Text::default();
            it.push_plain(text.as_bytes());
            it.ends_in_random_word()
        };
        assert!(ends("buy now\n4827fgJd3-112kXlw"));
        assert!(ends("buy now xkqwzrtpl"));
        assert!(!ends("kind regards, strength"));
        assert!(!ends("see you"));
        assert!(!ends("call 5551234567"));
        assert!(!ends(""));
    }
}
