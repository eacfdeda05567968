//! Cutting command lines: length, bare CR and LF, and NUL are decided here and nowhere else (RFC 5321 §2.3.8, §4.5.3.1.4).

use memchr::{memchr, memchr2};

/// What stands at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// No line end yet.
    Partial,
    /// A line: its text has `text` octets and with its end takes up `whole`.
    Line {
        /// Octets of the text.
        text: usize,
        /// Octets with the line end.
        whole: usize,
        /// It ended in a bare LF.
        bare: bool,
    },
    /// A line (or the front of one) above the limit.
    Overlong {
        /// Octets of it that are here, without a line end.
        text: usize,
        /// Octets to be skipped.
        whole: usize,
        /// Its end is here.
        ended: bool,
    },
}

/// Finds the end of the line at the front of `input`. A line may have `max` octets, its CRLF among them.
pub fn cut(input: &[u8], max: usize) -> Cut {
    match memchr(b'\n', input) {
        None if input.len() >= max => Cut::Overlong { text: input.len(), whole: input.len(), ended: false },
        None => Cut::Partial,
        Some(lf) if lf >= max => Cut::Overlong { text: lf, whole: lf + 1, ended: true },
        Some(lf) => {
            let bare = lf == 0 || input[lf - 1] != b'\r';
            Cut::Line { text: if bare { lf } else { lf - 1 }, whole: lf + 1, bare }
        }
    }
}

/// Whether a line's text holds what no command may hold: CR or NUL.
pub fn is_unclean(text: &[u8]) -> bool {
    memchr2(b'\r', 0, text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_lf_and_measured() {
        assert_eq!(cut(b"NOOP\r\nQUIT", 512), Cut::Line { text: 4, whole: 6, bare: false });
        assert_eq!(cut(b"NOOP\nQUIT", 512), Cut::Line { text: 4, whole: 5, bare: true });
        assert_eq!(cut(b"\n", 512), Cut::Line { text: 0, whole: 1, bare: true });
        assert_eq!(cut(b"NOOP\r", 512), Cut::Partial);
    }

    #[test]
    fn a_line_may_have_the_limit_and_no_more() {
        assert_eq!(cut(b"12345678\r\n", 10), Cut::Line { text: 8, whole: 10, bare: false });
        assert_eq!(cut(b"123456789\r\n", 10), Cut::Overlong { text: 10, whole: 11, ended: true });
        assert_eq!(cut(b"1234567890", 10), Cut::Overlong { text: 10, whole: 10, ended: false });
        assert_eq!(cut(b"123456789", 10), Cut::Partial);
    }

    #[test]
    fn cr_and_nul_are_unclean() {
        assert!(is_unclean(b"NO\rOP") && is_unclean(b"NOOP\0") && !is_unclean(b"NOOP\tx"));
    }
}
