//! Carrying out an [`Edit`]: header fields in, out and at the end, recipients, sender, body.
//!
//! Whoever asks for an edit, it is carried out here, so that later judges of a chain see the very message that will be sent. Names and
//! values are checked on the way: nobody can end the header block or forge a field by a line end in a value.

use bytes::Bytes;

use crate::{Address, Edit, Envelope, Message, Recipient, header};

/// Applies `edits` in order.
pub fn apply(edits: &[Edit], message: &mut Message, envelope: &mut Envelope) {
    for edit in edits {
        if is_envelope(edit) {
            apply_to_envelope(envelope, edit);
        } else {
            apply_to_message(message, edit);
        }
    }
}

/// Whether the edit is about the envelope; otherwise it is about the message.
pub fn is_envelope(edit: &Edit) -> bool {
    matches!(edit, Edit::AddRecipient(_) | Edit::RemoveRecipient(_) | Edit::SetSender(_))
}

/// Applies `edit`, if it is about the message.
pub fn apply_to_message(message: &mut Message, edit: &Edit) {
    match edit {
        Edit::PrependHeader { name, value } => prepend(message, name, value),
        Edit::AppendHeader { name, value } => append(message, name, value),
        Edit::RemoveHeader { name, index } => remove(message, name, *index),
        Edit::ReplaceBody(body) => replace_body(message, body.clone()),
        Edit::AddRecipient(_) | Edit::RemoveRecipient(_) | Edit::SetSender(_) => {}
    }
}

/// Applies `edit`, if it is about the envelope. A recipient that is there already is not added again.
pub fn apply_to_envelope(envelope: &mut Envelope, edit: &Edit) {
    match edit {
        Edit::AddRecipient(address) if is_recipient(envelope, address) => {}
        Edit::AddRecipient(address) => envelope.recipients.push(Recipient::new(address.clone())),
        Edit::RemoveRecipient(address) => envelope.recipients.retain(|there| there.address != *address),
        Edit::SetSender(sender) => envelope.sender = sender.clone(),
        _ => {}
    }
}

/// A header field as a line; `None` if the name is none. Line ends in the value stay only where they fold it.
pub fn field(name: &str, value: &str) -> Option<Bytes> {
    if name.is_empty() || !name.bytes().all(|b| (33..=126).contains(&b) && b != b':') {
        return None;
    }
    let mut line = String::with_capacity(name.len() + value.len() + 4);
    line.push_str(name);
    line.push_str(": ");
    for (at, part) in value.trim_end().replace("\r\n", "\n").split('\n').enumerate() {
        if at > 0 {
            line.push_str("\r\n");
            if !part.starts_with([' ', '\t']) {
                line.push('\t');
            }
        }
        line.extend(part.chars().filter(|c| !c.is_control() || *c == '\t'));
    }
    line.push_str("\r\n");
    Some(line.into())
}

fn is_recipient(envelope: &Envelope, address: &Address) -> bool {
    envelope.recipients.iter().any(|there| there.address == *address)
}

fn prepend(message: &mut Message, name: &str, value: &str) {
    if let Some(line) = field(name, value) {
        message.prepend(line);
    }
}

/// At the end of the block; in front of everything if the message has no block that could be continued.
fn append(message: &mut Message, name: &str, value: &str) {
    let Some(line) = field(name, value) else { return };
    let block = message.header_block();
    if block.is_empty() || block.ends_with(b"\r\n") {
        message.insert(block.len(), line);
    } else {
        message.prepend(line);
    }
}

fn remove(message: &mut Message, name: &str, index: Option<u32>) {
    let block = message.header_block();
    let found = header::fields(&block).filter(|field| field.is(name)).map(|field| field.range).enumerate();
    let wanted = found.filter(|(at, _)| index.is_none_or(|index| *at == index as usize)).map(|(_, range)| range);
    // From the back, so that the ranges in front stay where they are.
    for range in wanted.collect::<Vec<_>>().into_iter().rev() {
        message.cut(range);
    }
}

fn replace_body(message: &mut Message, body: Bytes) {
    let block = message.header_block();
    let end = Bytes::from_static(if block.is_empty() || block.ends_with(b"\r\n") { b"\r\n" } else { b"\r\n\r\n" });
    *message = Message::from_segments(vec![block, end, body]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReversePath;

    fn after(message: &str, edits: Vec<Edit>) -> String {
        let mut message = Message::new(Bytes::copy_from_slice(message.as_bytes()));
        apply(&edits, &mut message, &mut Envelope::default());
        String::from_utf8(message.contiguous().to_vec()).expect("text")
    }

    fn add(name: &str, value: &str) -> Edit {
        Edit::AppendHeader { name: name.into(), value: value.into() }
    }

    #[test]
    fn fields_go_in_front_at_the_end_and_away() {
        let edits = vec![
            Edit::RemoveHeader { name: "x-a".into(), index: Some(1) },
            Edit::PrependHeader { name: "P".into(), value: "1".into() },
            add("E", "2"),
        ];
        let got = after("X-A: 1\r\nX-A: 2\r\n folded\r\nB: 3\r\n\r\nX-A: body\r\n", edits);
        assert_eq!(got, "P: 1\r\nX-A: 1\r\nB: 3\r\nE: 2\r\n\r\nX-A: body\r\n");
        let all = vec![Edit::RemoveHeader { name: "X-A".into(), index: None }];
        assert_eq!(after("X-A: 1\r\nB: 2\r\nX-A: 3\r\n\r\n", all), "B: 2\r\n\r\n");
    }

    #[test]
    fn a_value_can_neither_end_the_block_nor_forge_a_field() {
        assert_eq!(
            after("A: b\r\n\r\nbody", vec![add("X", "one\r\nBcc: all\r\n\r\nhello\r\n two\0")]),
            "A: b\r\nX: one\r\n\tBcc: all\r\n\t\r\n\thello\r\n two\r\n\r\nbody"
        );
        assert_eq!(after("A: b\r\n\r\n", vec![add("X: y\r\nZ", "v"), add("", "v")]), "A: b\r\n\r\n");
    }

    #[test]
    fn another_body_stands_behind_the_same_header() {
        let body = Edit::ReplaceBody(Bytes::from_static(b"new\r\n"));
        assert_eq!(after("A: b\r\n\r\nold\r\n", vec![body.clone()]), "A: b\r\n\r\nnew\r\n");
        assert_eq!(after("\r\nold\r\n", vec![body]), "\r\nnew\r\n");
    }

    #[test]
    fn recipients_come_once_and_go() {
        let (a, b) = (Address::parse("a@example.com").expect("a"), Address::parse("b@example.com").expect("b"));
        let mut envelope = Envelope { recipients: vec![Recipient::new(a.clone())], ..Envelope::default() };
        let edits = vec![
            Edit::AddRecipient(a.clone()),
            Edit::AddRecipient(b.clone()),
            Edit::RemoveRecipient(a),
            Edit::SetSender(ReversePath::Mailbox(b.clone())),
        ];
        apply(&edits, &mut Message::default(), &mut envelope);
        assert_eq!(envelope.recipients, [Recipient::new(b.clone())]);
        assert_eq!(envelope.sender.address(), Some(&b));
    }
}
