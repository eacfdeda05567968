//! The contract of `sdk/wit`, as wit-bindgen writes it down in Rust.
//!
//! One small world per stage, so that a plugin's component exports exactly the interfaces that it names in [`export!`](crate::export):
//! the description of a world reaches a component only through its export macro, and imports that nobody calls are left out
//! when the component is made. Types are generated once, here, and shared by all worlds.

#![allow(missing_docs)]

wit_bindgen::generate!({
    path: "../wit",
    inline: "package waypost:sdk-imports; world sdk-imports { include waypost:plugin/imports@0.1.0; import waypost:plugin/types@0.1.0; }",
    world: "sdk-imports",
    generate_all,
    additional_derives: [PartialEq, Eq],
});

pub use waypost::plugin as imports;

/// A world with one export, in a module of its own. In brackets: the interfaces whose types it uses.
macro_rules! stage {
    ($module:ident, $wit:literal, $world:literal, [$($interface:literal: $path:path),*]) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "../wit",
                inline: $wit,
                world: $world,
                pub_export_macro: true,
                with: { $($interface: $path),* },
            });
        }
    };
}

stage!(
    lifecycle,
    "package waypost:sdk-lifecycle; world sdk-lifecycle { export waypost:plugin/lifecycle@0.1.0; }",
    "sdk-lifecycle",
    []
);
stage!(
    connect,
    "package waypost:sdk-connect; world sdk-connect { export waypost:plugin/on-connect@0.1.0; }",
    "sdk-connect",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types]
);
stage!(
    helo,
    "package waypost:sdk-helo; world sdk-helo { export waypost:plugin/on-helo@0.1.0; }",
    "sdk-helo",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types]
);
stage!(
    auth,
    "package waypost:sdk-auth; world sdk-auth { export waypost:plugin/on-auth@0.1.0; }",
    "sdk-auth",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types]
);
stage!(
    mail,
    "package waypost:sdk-mail; world sdk-mail { export waypost:plugin/on-mail@0.1.0; }",
    "sdk-mail",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types]
);
stage!(
    rcpt,
    "package waypost:sdk-rcpt; world sdk-rcpt { export waypost:plugin/on-rcpt@0.1.0; }",
    "sdk-rcpt",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types, "waypost:plugin/envelope@0.1.0": crate::bindings::imports::envelope]
);
stage!(
    rcpt_batch,
    "package waypost:sdk-rcpt-batch; world sdk-rcpt-batch { export waypost:plugin/on-rcpt-batch@0.1.0; }",
    "sdk-rcpt-batch",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types, "waypost:plugin/envelope@0.1.0": crate::bindings::imports::envelope]
);
stage!(
    data,
    "package waypost:sdk-data; world sdk-data { export waypost:plugin/on-data@0.1.0; }",
    "sdk-data",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types]
);
stage!(
    headers,
    "package waypost:sdk-headers; world sdk-headers { export waypost:plugin/on-headers@0.1.0; }",
    "sdk-headers",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types]
);
stage!(
    message,
    "package waypost:sdk-message; world sdk-message { export waypost:plugin/on-message@0.1.0; }",
    "sdk-message",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types]
);
stage!(
    queue,
    "package waypost:sdk-queue; world sdk-queue { export waypost:plugin/on-queue@0.1.0; }",
    "sdk-queue",
    ["waypost:plugin/types@0.1.0": crate::bindings::imports::types]
);
stage!(route, "package waypost:sdk-route; world sdk-route { export waypost:plugin/on-route@0.1.0; }", "sdk-route", []);
stage!(
    delivery,
    "package waypost:sdk-delivery; world sdk-delivery { export waypost:plugin/on-delivery@0.1.0; }",
    "sdk-delivery",
    []
);
stage!(
    command,
    "package waypost:sdk-command; world sdk-command { export waypost:plugin/on-command@0.1.0; }",
    "sdk-command",
    []
);
stage!(timer, "package waypost:sdk-timer; world sdk-timer { export waypost:plugin/on-timer@0.1.0; }", "sdk-timer", []);
