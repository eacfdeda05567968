//! Text as a reader sees it: lowered, blanks squeezed, counted on the way.

use memchr::memchr_iter;

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
    /// Octets beyond ASCII.
    pub beyond_ascii: usize,
    /// Whether a line begins with `>`: quoting.
    pub quotes: bool,
    /// Whether a line `-- ` stands there: a signature block.
    pub signed_off: bool,
}

/// What an octet adds to the counts: letters, capitals, exclamation marks, octets beyond ASCII, 16 bits each.
const COUNTS: [u64; 256] = {
    let mut counts = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        counts[byte] = match byte as u8 {
            b'a'..=b'z' => 1,
            b'A'..=b'Z' => 1 | 1 << 16,
            b'!' => 1 << 32,
            0x80.. => 1 << 48,
            _ => 0,
        };
        byte += 1;
    }
    counts
};

/// Octets lowered, blanks of all kinds one kind.
const LOWERED: [u8; 256] = {
    let mut lowered = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        lowered[byte] = match byte as u8 {
            b' ' | b'\t' | b'\r' | b'\n' => b' ',
            other => other.to_ascii_lowercase(),
        };
        byte += 1;
    }
    lowered
};

impl Text {
    /// Takes in a plain text part.
    pub fn push_plain(&mut self, part: &[u8]) {
        self.note_line(part);
        for at in memchr_iter(b'\n', part) {
            self.note_line(&part[at + 1..]);
        }
        self.push(part);
        self.blank();
    }

    /// Looks at the beginning of a line.
    fn note_line(&mut self, rest: &[u8]) {
        match rest.first() {
            Some(b'>') => self.quotes = true,
            Some(b'-') => {
                self.signed_off |=
                    ["-- \r", "-- \n", "--\r", "--\n"].iter().any(|mark| rest.starts_with(mark.as_bytes()))
            }
            _ => {}
        }
    }

    /// Takes in a run of shown text.
    pub fn push(&mut self, run: &[u8]) {
        // No lane of the counts can run over within so much.
        for piece in run.chunks(usize::from(u16::MAX)) {
            self.push_piece(piece);
        }
    }

    /// Without a branch per octet: this is most of what a message costs.
    fn push_piece(&mut self, piece: &[u8]) {
        let start = self.squeezed.len();
        let mut last = self.squeezed.last().copied().unwrap_or(b' ');
        self.squeezed.resize(start + piece.len(), 0);
        let target = &mut self.squeezed[start..];
        let (mut at, mut counts) = (0, 0u64);
        for &byte in piece {
            counts += COUNTS[usize::from(byte)];
            let put = LOWERED[usize::from(byte)];
            target[at] = put;
            at += usize::from(put != b' ' || last != b' ');
            last = put;
        }
        self.squeezed.truncate(start + at);
        let lane = |shift: u32| (counts >> shift) as usize & 0xffff;
        self.letters += lane(0);
        self.capitals += lane(16);
        self.exclaimed += lane(32);
        self.beyond_ascii += lane(48);
    }

    /// Dollar signs before a digit.
    pub fn amounts(&self) -> usize {
        memchr_iter(b'$', &self.squeezed).filter(|at| self.squeezed.get(at + 1).is_some_and(u8::is_ascii_digit)).count()
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
        assert_eq!((text.letters, text.capitals, text.exclaimed, text.amounts()), (18, 6, 2, 1));
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
