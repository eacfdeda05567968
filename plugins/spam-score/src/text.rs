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

/// Eight octets in one number, the first one lowest. Marks are numbers with the highest bit of each octet that is meant.
#[derive(Clone, Copy)]
pub(crate) struct Eight(u64);

/// The same octet eight times.
const fn all(octet: u8) -> u64 {
    0x0101_0101_0101_0101 * octet as u64
}

const HIGH: u64 = all(0x80);

impl Eight {
    pub(crate) fn new(octets: [u8; 8]) -> Eight {
        Eight(u64::from_le_bytes(octets))
    }

    pub(crate) fn beyond_ascii(self) -> u64 {
        self.0 & HIGH
    }

    /// ASCII octets of at least `least`, which is not 0. The sum of seven bits and what is missing to 128 carries into the eighth.
    fn from(self, least: u8) -> u64 {
        ((self.0 & !HIGH) + all(0x80 - least)) & HIGH & !self.0
    }

    /// ASCII octets below `limit`.
    fn below(self, limit: u8) -> u64 {
        !self.from(limit) & HIGH & !self.0
    }

    fn within(self, first: u8, last: u8) -> u64 {
        self.from(first) & self.below(last + 1)
    }

    fn equal_to(self, octet: u8) -> u64 {
        self.within(octet, octet)
    }

    fn capitals(self) -> u64 {
        self.within(b'A', b'Z')
    }

    fn small_letters(self) -> u64 {
        self.within(b'a', b'z')
    }

    /// Letters (small ones) and digits.
    pub(crate) fn of_lowered_words(self) -> u64 {
        self.small_letters() | self.within(b'0', b'9')
    }

    /// Everything but the space.
    pub(crate) fn shown(self) -> u64 {
        !self.equal_to(b' ') & HIGH
    }

    fn lowered(self) -> u64 {
        // 0x80 two bits down is what makes a capital small.
        self.0 | self.capitals() >> 2
    }
}

/// Copies octets lowered and blanks squeezed to `at`; gives where the next one goes.
fn squeeze(from: &[u8], target: &mut [u8], mut at: usize, mut after_blank: bool) -> usize {
    for &byte in from {
        let put = LOWERED[usize::from(byte)];
        let is_blank = put == b' ';
        if !(is_blank && after_blank) {
            target[at] = put;
            at += 1;
        }
        after_blank = is_blank;
    }
    at
}

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

    /// Takes in a run of shown text. This is most of what a message costs, so it goes by eight octets wherever no blank has to be changed.
    pub fn push(&mut self, run: &[u8]) {
        let start = self.squeezed.len();
        let mut after_blank = self.squeezed.last().is_none_or(|last| *last == b' ');
        self.squeezed.resize(start + run.len(), 0);
        let target = &mut self.squeezed[start..];
        let (eights, rest) = run.as_chunks::<8>();
        let mut at = 0;
        let (mut letters, mut capitals, mut exclaimed, mut beyond) = (0, 0, 0, 0);
        for eight in eights {
            let octets = Eight::new(*eight);
            let (lowered, marks) = (octets.lowered(), octets.capitals());
            letters += Eight(lowered).small_letters().count_ones();
            capitals += marks.count_ones();
            exclaimed += octets.equal_to(b'!').count_ones();
            beyond += octets.beyond_ascii().count_ones();
            let spaces = octets.equal_to(b' ');
            let squeezed = octets.below(b' ') | (spaces & spaces << 8) | (spaces & u64::from(after_blank) << 7);
            if squeezed == 0 {
                target[at..at + 8].copy_from_slice(&lowered.to_le_bytes());
                at += 8;
            } else {
                at = squeeze(eight, target, at, after_blank);
            }
            after_blank = matches!(eight[7], b' ' | b'\t' | b'\r' | b'\n');
        }
        at = squeeze(rest, target, at, after_blank);
        self.squeezed.truncate(start + at);
        let count = |what: fn(&u8) -> bool| rest.iter().filter(|byte| what(byte)).count();
        self.letters += letters as usize + count(u8::is_ascii_alphabetic);
        self.capitals += capitals as usize + count(u8::is_ascii_uppercase);
        self.exclaimed += exclaimed as usize + count(|byte| *byte == b'!');
        self.beyond_ascii += beyond as usize + count(|byte| !byte.is_ascii());
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

    /// Octet by octet, as it is meant.
    fn plainly(runs: &[&[u8]]) -> Text {
        let mut text = Text::default();
        for &byte in runs.iter().copied().flatten() {
            text.letters += usize::from(byte.is_ascii_alphabetic());
            text.capitals += usize::from(byte.is_ascii_uppercase());
            text.exclaimed += usize::from(byte == b'!');
            text.beyond_ascii += usize::from(!byte.is_ascii());
            let is_blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
            if !is_blank {
                text.squeezed.push(byte.to_ascii_lowercase());
            } else if text.squeezed.last().is_some_and(|last| *last != b' ') {
                text.squeezed.push(b' ');
            }
        }
        text
    }

    #[test]
    fn eight_at_once_is_the_same_as_one_by_one() {
        let every: Vec<u8> =
            (0..=255).flat_map(|byte| [byte, b' ', byte, byte, b'a', 255 - byte, b' ', b' ', b'Z']).collect();
        let mut seed = 7u32;
        let chance: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *b"  \t\r\nabzAZ!@[`{09\x80\xff\x1f".get(seed as usize >> 8 & 31).unwrap_or(&b'e')
        })
        .take(5000)
        .collect();
        for bytes in [&every[..], &chance[..]] {
            for cut in [0, 1, 7, 8, 9, 500, bytes.len()] {
                let (front, back) = bytes.split_at(cut);
                let mut text = Text::default();
                text.push(front);
                text.push(back);
                assert_eq!(format!("{text:?}"), format!("{:?}", plainly(&[front, back])), "cut at {cut}");
            }
        }
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
