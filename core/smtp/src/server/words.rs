//! What the session says of its own accord, in one place: code, enhanced status (RFC 3463) and text of every reply that is not an
//! answer to a question.

use std::borrow::Cow;

use waypost_types::{Enhanced, Reply};

const fn say(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Reply {
    Reply { code, enhanced: Some(Enhanced(enhanced.0, enhanced.1, enhanced.2)), text: Cow::Borrowed(text) }
}

const fn say_plain(code: u16, text: &'static str) -> Reply {
    Reply { code, enhanced: None, text: Cow::Borrowed(text) }
}

// Yes.
pub(super) const OK: Reply = say(250, (2, 0, 0), "ok");
pub(super) const SENDER_OK: Reply = say(250, (2, 1, 0), "sender ok");
pub(super) const SENDER_SLOWED: Reply = say(250, (2, 3, 6), "sender ok, without the urgency");
pub(super) const RECIPIENT_OK: Reply = say(250, (2, 1, 5), "recipient ok");
pub(super) const GO_AHEAD: Reply = say_plain(354, "end data with <CR><LF>.<CR><LF>");
pub(super) const MESSAGE_OK: Reply = say(250, (2, 0, 0), "message accepted");
pub(super) const READY_FOR_TLS: Reply = say(220, (2, 0, 0), "ready to start TLS");
pub(super) const LOGGED_IN: Reply = say(235, (2, 7, 0), "authentication successful");
pub(super) const CANNOT_VERIFY: Reply = say(252, (2, 0, 0), "cannot verify, but send some mail and see");
pub(super) const HELP: Reply = say(214, (2, 0, 0), "see RFC 5321");
pub(super) const BYE: Reply = say(221, (2, 0, 0), "bye");

// Syntax.
pub(super) const UNKNOWN: Reply = say(500, (5, 5, 1), "unknown command");
pub(super) const NOT_IMPLEMENTED: Reply = say(502, (5, 5, 1), "command not implemented");
pub(super) const NOT_FOR_LMTP: Reply = say(500, (5, 5, 1), "this is LMTP: use LHLO");
pub(super) const NOT_FOR_SMTP: Reply = say(500, (5, 5, 1), "this is SMTP: use EHLO");
pub(super) const UNCLEAN: Reply = say(501, (5, 5, 2), "command holds CR, NUL or malformed UTF-8");
pub(super) const OVERLONG: Reply = say(500, (5, 5, 2), "line too long");
pub(super) const BARE_LF_COMMAND: Reply = say(500, (5, 5, 2), "command line ends in a bare LF: send CRLF");
pub(super) const BAD_HOST: Reply = say(501, (5, 5, 4), "give your host name or an address literal");
pub(super) const CHUNK_SYNTAX: Reply = say(501, (5, 5, 4), "syntax: BDAT size [LAST]");
pub(super) const NULL_RECIPIENT: Reply = say(501, (5, 1, 3), "the null path cannot receive mail");
pub(super) const NEEDS_UTF8: Reply = say(553, (5, 6, 7), "internationalised address needs SMTPUTF8 on MAIL");

// Order.
pub(super) const NEED_TLS: Reply = say(530, (5, 7, 0), "must issue STARTTLS first");
pub(super) const NEED_AUTH: Reply = say(530, (5, 7, 0), "authentication required");
pub(super) const NEED_TLS_FOR_AUTH: Reply = say(538, (5, 7, 11), "authentication needs TLS: issue STARTTLS first");
pub(super) const NEED_TLS_FOR_REQUIRETLS: Reply = say(530, (5, 7, 10), "REQUIRETLS needs TLS: issue STARTTLS first");
pub(super) const NEED_HELO: Reply = say(503, (5, 5, 1), "say EHLO first");
pub(super) const NEED_LHLO: Reply = say(503, (5, 5, 1), "say LHLO first");
pub(super) const NEED_MAIL: Reply = say(503, (5, 5, 1), "need MAIL first");
pub(super) const NEED_RCPT: Reply = say(503, (5, 5, 1), "need RCPT first");
pub(super) const NO_RECIPIENTS: Reply = say(554, (5, 5, 1), "no valid recipients");
pub(super) const NESTED_MAIL: Reply = say(503, (5, 5, 1), "nested MAIL: a transaction is open, RSET ends it");
pub(super) const IN_BDAT: Reply = say(503, (5, 5, 1), "BDAT has begun: go on with BDAT or issue RSET");
pub(super) const BINARY_BY_DATA: Reply = say(503, (5, 5, 1), "BODY=BINARYMIME needs BDAT");
pub(super) const TLS_IS_UP: Reply = say(503, (5, 5, 1), "TLS is already active");
pub(super) const NO_TLS: Reply = say(502, (5, 5, 1), "STARTTLS is not offered here");
pub(super) const IN_TRANSACTION: Reply = say(503, (5, 5, 1), "not during a mail transaction");
pub(super) const NO_AUTH: Reply = say(502, (5, 5, 1), "AUTH is not offered here");
pub(super) const AUTH_IS_DONE: Reply = say(503, (5, 5, 1), "already authenticated");

// AUTH.
pub(super) const NO_MECHANISM: Reply = say(504, (5, 5, 4), "mechanism not offered");
pub(super) const AUTH_SYNTAX: Reply = say(501, (5, 5, 2), "malformed authentication exchange");
pub(super) const AUTH_CANCELLED: Reply = say(501, (5, 7, 0), "authentication cancelled");
pub(super) const AUTH_FAILED: Reply = say(535, (5, 7, 8), "authentication failed");

pub(super) const BAD_ATTRIBUTE: Reply = say(501, (5, 5, 4), "attribute not understood");
pub(super) const HELD_TOO_LONG: Reply = say(501, (5, 5, 4), "messages are not held for so long");

// Bounds and manners. The ones with 421 and 521 are followed by the end.
pub(super) const TOO_LARGE: Reply = say(552, (5, 3, 4), "message exceeds the size limit");
pub(super) const TOO_MANY_RECIPIENTS: Reply =
    say(452, (4, 5, 3), "too many recipients: send the rest in another transaction");
pub(super) const BARE_NEWLINE: Reply = say(550, (5, 5, 2), "message holds bare CR or LF: lines end in CRLF");
pub(super) const SMUGGLED: Reply = say(521, (5, 5, 2), "a dot between bare CR or LF does not end a message");
pub(super) const EARLY: Reply = say(554, (5, 5, 0), "you spoke before your turn");
pub(super) const AFTER_STARTTLS: Reply = say(554, (5, 5, 0), "nothing may follow STARTTLS before TLS is up");
pub(super) const FOREIGN: Reply = say(554, (5, 5, 1), "this is a mail server; it speaks SMTP");
pub(super) const TOO_MANY_ERRORS: Reply = say(421, (4, 7, 0), "too many errors");
pub(super) const TOO_MANY_IDLE: Reply = say(421, (4, 7, 0), "too many commands without mail");
pub(super) const TOO_MANY_LOGINS: Reply = say(421, (4, 7, 0), "too many failed logins");
pub(super) const TOO_MANY_MESSAGES: Reply = say(421, (4, 7, 0), "too many messages in one session: connect again");
pub(super) const TIMED_OUT: Reply = say(421, (4, 4, 2), "timeout waiting for you");
pub(super) const GOING_DOWN: Reply = say(421, (4, 3, 2), "going down, try again shortly");
