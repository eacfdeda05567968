//! A plugin that wants to be asked about recipients of one domain only, in batches, from outside, and says nothing.
#![cfg(target_arch = "wasm32")]

wit_bindgen::generate!({
    path: "../../../../../sdk/wit",
    inline: "
        package test:narrow;
        world narrow {
            export waypost:plugin/lifecycle@0.1.0;
            export waypost:plugin/on-rcpt-batch@0.1.0;
        }
    ",
    world: "test:narrow/narrow",
    generate_all,
});

use exports::waypost::plugin::lifecycle::{self, BodyNeed, Registration};
use exports::waypost::plugin::on_rcpt_batch::{self, Outcome, Rcpt};
use waypost::plugin::types::{Action, Reply};

struct Narrow;

impl lifecycle::Guest for Narrow {
    fn init() -> Result<Registration, String> {
        Ok(Registration {
            name: "narrow".into(),
            version: "1.2.3".into(),
            rcpt_domains: vec!["narrow.example".into(), ".below.example".into()],
            only_inbound: true,
            only_authenticated: false,
            max_size: None,
            body: BodyNeed::NONE,
            preview_bytes: 0,
        })
    }
}

impl on_rcpt_batch::Guest for Narrow {
    fn check_all(recipients: Vec<Rcpt>) -> Vec<Outcome> {
        let text = |r: &Rcpt| format!("narrow saw {}", r.address);
        let refuse = |r: Rcpt| Ok(Action::Reject(Reply { code: 550, enhanced: (5, 7, 1), text: text(&r) }));
        recipients.into_iter().map(refuse).collect()
    }
}

export!(Narrow);
