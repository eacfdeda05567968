//! The field names of a header block.

/// The name of each field, in order. Lines that continue a field, and whatever is no field, have none.
pub fn names(block: &[u8]) -> Vec<&str> {
    let lines = block.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b" ") && !line.starts_with(b"\t"));
    lines
        .filter_map(|line| {
            std::str::from_utf8(line.split(|byte| *byte == b':').next()?).ok().filter(|name| name.len() < line.len())
        })
        .map(str::trim_end)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn continuations_are_no_fields() {
        assert_eq!(super::names(b"From: a\r\n b: c\r\nTO : x\r\nnonsense\r\n"), ["From", "TO"]);
        assert!(super::names(b"").is_empty());
    }
}
