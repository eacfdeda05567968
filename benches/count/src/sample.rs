//! The message, the session and the entry that all steps are about.

use bytes::Bytes;
use waypost_queue::{Delivery, Entry, Kind, Origin};
use waypost_types::{
    Address, MailParameters, Message, MessageId, Recipient, ReversePath, SessionFacts, SessionId, Timestamp, Transport,
};

/// A header block as mail has it when it arrives at its last host but one.
pub(crate) const HEADERS: &str = "Return-Path: <a@client.example>\r\n\
Received: from mx1.client.example (mx1.client.example [192.0.2.7])\r\n\tby mx.example.com with ESMTPS id 01J9ZZZZZZZZZ\r\n\t(TLSv1.3 cipher TLS_AES_256_GCM_SHA384);\r\n\tTue, 24 Nov 2026 10:00:00 +0000\r\n\
Received: from [198.51.100.4] by mx1.client.example; Tue, 24 Nov 2026 09:59:58 +0000\r\n\
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=client.example; s=s1;\r\n\th=from:to:subject:date:message-id; bh=frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=;\r\n\tb=dzdVyOfAKCdLXdJOc9G2q8LoXSlEniSbav+yuU4zGeeruD00lszZVoG4ZHRNiYzR\r\n\
MIME-Version: 1.0\r\n\
Date: Tue, 24 Nov 2026 09:59:57 +0000\r\n\
From: Somebody <a@client.example>\r\n\
To: Alice <alice@example.com>\r\n\
Subject: =?utf-8?q?What_a_message_costs?=\r\n\
Message-ID: <5f1b0c6e@client.example>\r\n\
Content-Type: text/plain; charset=utf-8\r\n\
Content-Transfer-Encoding: 7bit\r\n";

/// Headers, and lines of 78 octets: 10 KB in all. Some lines begin with a dot.
pub(crate) fn text() -> Vec<u8> {
    let mut text = HEADERS.as_bytes().to_vec();
    text.extend_from_slice(b"\r\n");
    for number in 0.. {
        let first = if number % 16 == 0 { b'.' } else { b'x' };
        text.push(first);
        text.extend_from_slice(&[b'x'; 77]);
        text.extend_from_slice(b"\r\n");
        if text.len() >= 10_240 {
            return text;
        }
    }
    unreachable!("it grows in each round")
}

pub(crate) fn message() -> Message {
    Message::new(Bytes::from(text()))
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().expect("an address of ours")
}

pub(crate) fn facts() -> SessionFacts {
    let peer = "192.0.2.1:40000".parse().expect("a socket's address");
    SessionFacts {
        id: SessionId::new(1),
        transport: Transport::Mx,
        peer,
        local: peer,
        peer_name: None,
        helo: "".into(),
        esmtp: false,
        tls: None,
        user: None,
        trusted: false,
    }
}

/// When everything happens.
pub(crate) const NOW: Timestamp = Timestamp(1_795_000_000_000);

pub(crate) fn entry(recipients: usize) -> Entry {
    let delivery = |number| {
        let recipient = Recipient::new(address(&format!("user{number}@elsewhere.example")));
        Delivery::new(recipient, NOW)
    };
    Entry {
        id: MessageId::new(NOW, 7),
        kind: Kind::Mail,
        accepted: NOW,
        expires: Timestamp(NOW.0 + 5 * 86_400_000),
        origin: Origin {
            transport: Transport::Mx,
            session: Some(SessionId::new(1)),
            peer: Some([192, 0, 2, 1].into()),
            helo: "client.example".into(),
            user: None,
        },
        sender: ReversePath::Mailbox(address("a@client.example")),
        parameters: MailParameters::default(),
        recipients: (0..recipients).map(delivery).collect(),
        size: 10_240,
        held: None,
        route: None,
        why: None,
    }
}
