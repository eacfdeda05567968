//! What a port allows.
/// One listener's rules.
#[derive(Clone, Debug)]
pub struct Policy {}
