//! Every bound and the reason for it. Settings may lower or raise most of them; these are the defaults and the hard stops.

use std::time::Duration;

/// RFC 5321 §4.5.3.1.1 asks for 64 and begs not to stop there; senders that write the recipient into the bounce address go beyond.
pub const LOCAL_PART_BYTES_MAX: usize = 255;
/// RFC 5321 §4.5.3.1.2.
pub const DOMAIN_BYTES_MAX: usize = 255;
/// RFC 5321 §4.5.3.1.4 asks for 512; the parameters of our extensions add up to about 1 200 (RFC 3461 alone: 500 + 100).
pub const COMMAND_LINE_BYTES_MAX: usize = 2048;
/// RFC 4954 §4: a line of a SASL exchange.
pub const AUTH_LINE_BYTES_MAX: usize = 12_288;
/// A reply line of a peer; RFC 5321 §4.5.3.1.5 asks for 512, some receivers send more.
pub const REPLY_LINE_BYTES_MAX: usize = 2048;
/// Lines of one reply of a peer: EHLO answers have two dozen.
pub const REPLY_LINES_MAX: usize = 128;
/// Octets of a message, unless a policy says otherwise.
pub const MESSAGE_BYTES_MAX: usize = 50 * 1024 * 1024;
/// Octets of a header block: larger ones are attacks on parsers.
pub const HEADER_BYTES_MAX: usize = 256 * 1024;
/// RFC 5321 §4.5.3.1.8 asks for at least 100; Postfix takes 1 000.
pub const RECIPIENTS_MAX: usize = 1000;
/// `Received` fields before a message is a loop, RFC 5321 §6.3 ("at least 100" is for those who count trace headers of others;
/// Postfix's `hopcount_limit` is 50).
pub const HOPS_MAX: usize = 50;
/// Recipients that one alias may expand to, and how deep.
pub const ALIAS_EXPANSION_MAX: usize = 10_000;
/// Nested aliases.
pub const ALIAS_DEPTH_MAX: usize = 20;
/// Refused or unknown commands before a session is closed (Postfix: `smtpd_hard_error_limit` 20).
pub const SESSION_ERRORS_MAX: u32 = 20;
/// Errors of a session before answers to further ones are kept back (Postfix: `smtpd_soft_error_limit`).
pub const TARPIT_ERRORS: u32 = 10;
/// How much later each further error is answered than the one before.
pub const TARPIT_STEP: Duration = Duration::from_millis(200);
/// The longest that an answer is kept back. It costs us a connection, and the client a slot that it would use against us.
pub const TARPIT_MAX: Duration = Duration::from_secs(5);
/// Errors of a session while connections run short (Postfix's stress mode has 1, which a mistyped recipient reaches).
pub const PRESSED_ERRORS_MAX: u32 = 3;
/// Waiting for a client while connections run short (Postfix's stress mode).
pub const PRESSED_TIMEOUT: Duration = Duration::from_secs(10);
/// How long FUTURERELEASE may hold a message.
pub const HOLD_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes read and not yet understood, per session: one pipelined group.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of replies waiting for a client that does not read.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Transactions in one session.
pub const SESSION_MESSAGES_MAX: u32 = 10_000;
/// RFC 5321 §4.5.3.2.7: waiting for a client's next command.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// RFC 5321 §4.5.3.2.5: between blocks of a body, at the receiving side.
pub const DATA_TIMEOUT: Duration = Duration::from_secs(180);
/// RFC 5321 §4.5.4.1: "the give-up time generally needs to be at least 4-5 days".
pub const LIFETIME: Duration = Duration::from_secs(5 * 24 * 3600);
/// Our own notices give up earlier, so that they cannot fill the queue.
pub const NOTICE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
