//! Edits, as later plugins of the same chain must see them.
//!
//! The server applies the edits of a whole chain once it has passed the message. Within the chain each plugin sees what those
//! before it asked for, or a signature would be made over something that is not sent.

use bytes::Bytes;
use waypost_types::{Address, Edit, Envelope, Message, Recipient, header};

/// Applies `edit` to the message, if it is about the message.
pub(crate) fn apply_to_message(message: &mut Message, edit: &Edit) {
    match edit {
        Edit::PrependHeader { name, value } => message.prepend(line(name, value)),
        Edit::AppendHeader { name, value } => {
            let end = message.header_block().len();
            message.insert(end, line(name, value));
        }
        Edit::RemoveHeader { name, index } => remove(message, name, *index),
        Edit::ReplaceBody(body) => replace_body(message, body),
        Edit::AddRecipient(_) | Edit::RemoveRecipient(_) | Edit::SetSender(_) => {}
    }
}

/// Applies `edit` to the envelope, if it is about the envelope.
pub(crate) fn apply_to_envelope(envelope: &mut Envelope, edit: &Edit) {
    match edit {
        Edit::AddRecipient(address) if is_recipient(envelope, address) => {}
        Edit::AddRecipient(address) => envelope.recipients.push(Recipient::new(address.clone())),
        Edit::RemoveRecipient(address) => envelope.recipients.retain(|there| there.address != *address),
        Edit::SetSender(sender) => envelope.sender = sender.clone(),
        _ => {}
    }
}

fn is_recipient(envelope: &Envelope, address: &Address) -> bool {
    envelope.recipients.iter().any(|there| there.address == *address)
}

/// Whether the edit is about the envelope.
pub(crate) fn is_envelope(edit: &Edit) -> bool {
    matches!(edit, Edit::AddRecipient(_) | Edit::RemoveRecipient(_) | Edit::SetSender(_))
}

fn line(name: &str, value: &str) -> Bytes {
    format!("{name}: {value}\r\n").into()
}

fn remove(message: &mut Message, name: &str, index: Option<u32>) {
    let block = message.header_block();
    let named = header::fields(&block).filter(|field| field.is(name)).map(|field| field.range);
    let chosen: Vec<_> = match index {
        Some(index) => named.skip(index as usize).take(1).collect(),
        None => named.collect(),
    };
    for range in chosen.into_iter().rev() {
        message.cut(range);
    }
}

fn replace_body(message: &mut Message, body: &Bytes) {
    let block = message.header_block();
    *message = Message::from_segments(vec![block, Bytes::from_static(b"\r\n"), body.clone()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(edits: &[Edit]) -> String {
        let mut message = Message::new(Bytes::from_static(b"A: 1\r\nB: 2\r\nA: 3\r\n\r\nbody\r\n"));
        edits.iter().for_each(|edit| apply_to_message(&mut message, edit));
        String::from_utf8(message.contiguous().to_vec()).unwrap()
    }

    fn header(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn headers_go_to_the_front_to_the_end_of_the_block_and_away() {
        let (name, value) = header("X", "y");
        assert!(
            edited(&[Edit::PrependHeader { name: name.clone(), value: value.clone() }]).starts_with("X: y\r\nA: 1")
        );
        assert!(edited(&[Edit::AppendHeader { name, value }]).contains("A: 3\r\nX: y\r\n\r\nbody"));
        assert_eq!(edited(&[Edit::RemoveHeader { name: "a".into(), index: None }]), "B: 2\r\n\r\nbody\r\n");
        assert_eq!(edited(&[Edit::RemoveHeader { name: "a".into(), index: Some(1) }]), "A: 1\r\nB: 2\r\n\r\nbody\r\n");
        assert_eq!(edited(&[Edit::RemoveHeader { name: "a".into(), index: Some(2) }]).matches("A: ").count(), 2);
    }

    #[test]
    fn a_body_is_put_in_place_of_another() {
        assert_eq!(edited(&[Edit::ReplaceBody("new\r\n".into())]), "A: 1\r\nB: 2\r\nA: 3\r\n\r\nnew\r\n");
    }

    #[test]
    fn a_recipient_is_added_once_and_removed() {
        let address = |text: &str| waypost_types::Address::parse(text).unwrap();
        let mut envelope = Envelope::default();
        for _ in 0..2 {
            apply_to_envelope(&mut envelope, &Edit::AddRecipient(address("a@b.example")));
        }
        assert_eq!(envelope.recipients.len(), 1);
        apply_to_envelope(&mut envelope, &Edit::RemoveRecipient(address("a@b.example")));
        assert!(envelope.recipients.is_empty());
    }
}
