//! From body pieces to a message in the queue.
//!
//! | page | what it holds |
//! |---|---|
//! | this | [`Body`]: collecting the pieces that the session hands out, within the bound on memory |
//! | `survey` | one walk over the header block: hops, forged fields, what is missing |
//! | `rewrite` | canonical addresses in header fields |
//! | `forward` | recipients after aliases, parted by the sender under which their mail goes on |
//! | `report` | bounces and complaints: what they tell us of mail of ours |
//! | `admit` | the final dot: checks, judges, trace headers, entry, `store.accept`, reply |

pub(crate) mod admit;
mod forward;
mod report;
mod rewrite;
mod survey;

pub(crate) use admit::QUARANTINE;

use std::sync::Arc;

use bytes::BytesMut;
use waypost_types::Message;

use crate::shared::Shared;

/// Pieces smaller than this are joined by copying; it costs less than carrying a segment along.
const JOIN_BYTES_MAX: usize = 256 * 1024;

/// The message of the transaction, as far as it has come.
pub(crate) struct Body {
    shared: Arc<Shared>,
    segments: Vec<BytesMut>,
    /// Octets taken from [`Shared::memory`].
    held: usize,
    /// The bound on memory was reached; what came since is gone, and the message must be refused.
    overflowed: bool,
}

impl Body {
    pub(crate) fn new(shared: Arc<Shared>) -> Body {
        Body { shared, segments: Vec::new(), held: 0, overflowed: false }
    }

    /// The next piece. Pieces that are neighbours in memory become one again without a copy.
    pub(crate) fn push(&mut self, piece: BytesMut) {
        if self.overflowed || piece.is_empty() {
            return;
        }
        if !self.shared.memory.take(piece.len()) {
            self.clear();
            self.overflowed = true;
            return;
        }
        self.held += piece.len();
        match self.segments.last_mut() {
            Some(last) if are_neighbours(last, &piece) => last.unsplit(piece),
            Some(last) if last.len() + piece.len() <= JOIN_BYTES_MAX => last.extend_from_slice(&piece),
            _ => self.segments.push(piece),
        }
    }

    /// Whether the message is void because memory ran out.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The whole message. Its octets stay counted until [`Body::clear`].
    pub(crate) fn take(&mut self) -> Message {
        Message::from_segments(std::mem::take(&mut self.segments).into_iter().map(BytesMut::freeze).collect())
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.segments = Vec::new();
        self.overflowed = false;
        if self.held > 0 {
            self.shared.memory.give_back(std::mem::take(&mut self.held));
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether `right` begins where `left` ends. If they are of different allocations after all, `unsplit` copies.
fn are_neighbours(left: &BytesMut, right: &BytesMut) -> bool {
    left.as_ptr_range().end == right.as_ptr()
}
