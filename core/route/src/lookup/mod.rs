//! Tables that are held in memory: `types::port::Table` for everything that is read from text.
//!
//! | page | kind | what its text looks like |
//! |---|---|---|
//! | `text` | [`TextTable`] | `key value`, as `postmap` reads it; a key may be a network |
//! | `cidr` | [`CidrTable`] | Postfix's cidr_table(5): networks in order, `!`, `if` … `endif` |
//! | `regexp` | [`RegexpTable`] | Postfix's pcre_table(5) and regexp_table(5): `/pattern/flags value`, `$1`, `if` … `endif` |
//!
//! Reading the file is left to whoever calls, so that a table that cannot be understood is told whole, line by line, before it is used.

mod cidr;
mod regexp;
mod text;

pub use cidr::CidrTable;
pub use regexp::{Dialect, RegexpTable};
pub use text::TextTable;

use crate::table::Mistake;

/// Blocks of `if` … `endif`, as both kinds of ordered tables have them. A row is found only if all blocks around it hold.
#[derive(Clone, Debug)]
struct Blocks<C> {
    /// Every condition, with the block around it.
    conditions: Vec<(C, Option<usize>)>,
    /// The blocks that are open, with their lines.
    open: Vec<(usize, u32)>,
}

/// Blocks in blocks.
const DEPTH_MAX: usize = 20;

impl<C> Blocks<C> {
    fn new() -> Blocks<C> {
        Blocks { conditions: Vec::new(), open: Vec::new() }
    }

    fn begin(&mut self, line: u32, condition: C) -> Result<(), String> {
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("`if` is nested deeper than {DEPTH_MAX}"));
        }
        self.conditions.push((condition, self.current()));
        self.open.push((self.conditions.len() - 1, line));
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        self.open.pop().map(drop).ok_or_else(|| "`endif` without an `if`: take it out".to_string())
    }

    /// The innermost open block.
    fn current(&self) -> Option<usize> {
        self.open.last().map(|(block, _)| *block)
    }

    /// Whoever is still open at the end of the text.
    fn unclosed(&self) -> Option<Mistake> {
        let (_, line) = self.open.last()?;
        Some(Mistake { line: *line, text: "this `if` has no `endif`: add one".to_string() })
    }

    /// Whether a block and all around it hold.
    fn hold(&self, block: Option<usize>, holds: &mut impl FnMut(&C) -> bool) -> bool {
        let mut next = block;
        while let Some(at) = next {
            let (condition, outer) = &self.conditions[at];
            if !holds(condition) {
                return false;
            }
            next = *outer;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse_aliases, parse_transports, parse_virtual};

    #[test]
    fn no_text_makes_a_reader_fall_over() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let pieces = [
            "/",
            "if ",
            "endif",
            "!",
            "\n",
            " ",
            "192.0.2.0/24",
            "::",
            "[",
            "]",
            "\\",
            "$",
            "{",
            "}",
            "1",
            "(",
            ")",
            "@",
            "\"",
            ":",
            ":include:x",
            ",",
            "é",
            "a.test",
            "\t",
            "#",
            "*",
            "+",
            "?",
            "^",
            "i",
            "OK",
        ];
        for _ in 0..3000 {
            let mut text = String::new();
            for _ in 0..14 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text.push_str(pieces[(state % pieces.len() as u64) as usize]);
            }
            let _ = TextTable::parse(&text);
            let _ = CidrTable::parse(&text);
            for dialect in [Dialect::Pcre, Dialect::Posix] {
                if let Ok(table) = RegexpTable::parse(&text, dialect) {
                    let _ = table.find(&text);
                }
            }
            let _ = parse_aliases(&text, |_| Ok("x, :include:x".to_string()));
            let _ = (parse_virtual(&text), parse_transports(&text));
        }
    }
}
