//! What guessing passwords costs. Who knows them is behind [`waypost_types::login::Authenticator`].
//!
//! | page | what it holds |
//! |---|---|
//! | `throttle` | failures per address: they cost time, and many of them the connection |

pub(crate) mod throttle;
