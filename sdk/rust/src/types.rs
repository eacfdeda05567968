//! The contract's values under the names that plugins use, and the short ways to make them.

pub use crate::bindings::imports::auth_results::Entry as AuthFinding;
pub use crate::bindings::imports::dns::{
    Answer as DnsAnswer, Error as DnsError, Query as DnsQuery, Rtype as RecordType,
};
pub use crate::bindings::imports::env::Level;
pub use crate::bindings::imports::envelope::Rcpt as Recipient;
pub use crate::bindings::imports::http::{Request as HttpRequest, Response as HttpResponse};
pub use crate::bindings::imports::message::Part;
pub use crate::bindings::imports::session::TransportKind;
pub use crate::bindings::imports::types::{Action, Reply};

pub use crate::bindings::auth::exports::waypost::plugin::on_auth::{AuthResult, Credentials};
pub use crate::bindings::delivery::exports::waypost::plugin::on_delivery::{
    Event as DeliveryEvent, Kind as DeliveryKind,
};
pub use crate::bindings::lifecycle::exports::waypost::plugin::lifecycle::{BodyNeed, Registration};
pub use crate::bindings::route::exports::waypost::plugin::on_route::NextRoute;

/// What a hook answers. `Err` is an orderly failure: the fault policy speaks, the instance lives on.
pub type Outcome = Result<Action, String>;

impl Reply {
    /// A reply from its code, its enhanced status (RFC 3463) and a text. The host keeps the code within what the stage allows.
    pub fn new(code: u16, enhanced: (u8, u8, u16), text: impl Into<String>) -> Reply {
        Reply { code, enhanced, text: text.into() }
    }
}

impl Action {
    /// Refuses for good.
    pub fn reject(code: u16, enhanced: (u8, u8, u16), text: impl Into<String>) -> Action {
        Action::Reject(Reply::new(code, enhanced, text))
    }

    /// Refuses for now.
    pub fn tempfail(code: u16, enhanced: (u8, u8, u16), text: impl Into<String>) -> Action {
        Action::Tempfail(Reply::new(code, enhanced, text))
    }
}

impl DnsQuery {
    /// A question.
    pub fn new(name: impl Into<String>, rtype: RecordType) -> DnsQuery {
        DnsQuery { name: name.into(), rtype }
    }
}

impl Registration {
    /// A registration that narrows nothing: every domain, direction and size, no need of the body.
    pub fn new(name: &str, version: &str) -> Registration {
        Registration {
            name: name.to_string(),
            version: version.to_string(),
            rcpt_domains: Vec::new(),
            only_inbound: false,
            only_authenticated: false,
            max_size: None,
            body: BodyNeed::empty(),
            preview_bytes: 0,
        }
    }

    /// The same, reading the whole message at the stages that have one.
    #[must_use]
    pub fn reading(mut self, body: BodyNeed) -> Registration {
        self.body = body;
        self
    }

    /// The same, asked only about mail from outside: not for users who logged in, nor for hosts of our own.
    #[must_use]
    pub fn only_inbound(mut self) -> Registration {
        self.only_inbound = true;
        self
    }
}
