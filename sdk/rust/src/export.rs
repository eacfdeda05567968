//! Making a component of a plugin.

/// Exports a [`Plugin`](crate::Plugin) at the stages named; naming a stage is the subscription to it.
///
/// ```
/// # use waypost_sdk::*;
/// # struct Greeter;
/// # impl Plugin for Greeter {
/// #     fn init(_: &Host) -> Result<(Self, Registration), String> { Ok((Greeter, Registration::new("greeter", "1"))) }
/// # }
/// waypost_sdk::export!(Greeter: helo, rcpt);
/// ```
///
/// Stages: `connect helo auth mail rcpt rcpt_batch data headers message queue route delivery timer command`. Everything is under
/// `#[cfg(target_arch = "wasm32")]`, so natively the crate is an ordinary library with ordinary unit tests.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($stage:ident),+ $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            /// Calls into the instance. The host calls `init` first, so there is one.
            fn with<T>(call: impl FnOnce(&mut $plugin, &$crate::Host) -> T) -> T {
                INSTANCE.with_borrow_mut(|instance| {
                    call(instance.as_mut().expect("init was not called"), &$crate::Host::imported())
                })
            }

            impl $crate::bindings::lifecycle::exports::waypost::plugin::lifecycle::Guest for Component {
                fn init() -> ::std::result::Result<$crate::Registration, ::std::string::String> {
                    let (plugin, registration) = <$plugin as $crate::Plugin>::init(&$crate::Host::imported())?;
                    INSTANCE.set(::std::option::Option::Some(plugin));
                    ::std::result::Result::Ok(registration)
                }
            }
            $crate::__export_sdk_lifecycle_impl!(Component with_types_in $crate::bindings::lifecycle);

            $( $crate::__export_stage!($plugin, Component, with, $stage); )+
        };
    };
}

/// One stage of [`export!`](crate::export).
#[doc(hidden)]
#[macro_export]
macro_rules! __export_stage {
    ($plugin:ty, $component:ident, $with:ident, connect) => {
        impl $crate::bindings::connect::exports::waypost::plugin::on_connect::Guest for $component {
            fn connect() -> $crate::Outcome {
                $with(|plugin, host| $crate::Plugin::connect(plugin, host))
            }
        }
        $crate::__export_sdk_connect_impl!($component with_types_in $crate::bindings::connect);
    };
    ($plugin:ty, $component:ident, $with:ident, helo) => {
        impl $crate::bindings::helo::exports::waypost::plugin::on_helo::Guest for $component {
            fn helo(name: ::std::string::String, esmtp: bool) -> $crate::Outcome {
                $with(|plugin, host| $crate::Plugin::helo(plugin, host, &name, esmtp))
            }
        }
        $crate::__export_sdk_helo_impl!($component with_types_in $crate::bindings::helo);
    };
    ($plugin:ty, $component:ident, $with:ident, auth) => {
        impl $crate::bindings::auth::exports::waypost::plugin::on_auth::Guest for $component {
            fn authenticate(
                credentials: $crate::types::Credentials,
            ) -> ::std::result::Result<$crate::types::AuthResult, ::std::string::String> {
                $with(|plugin, host| $crate::Plugin::authenticate(plugin, host, &credentials))
            }
        }
        $crate::__export_sdk_auth_impl!($component with_types_in $crate::bindings::auth);
    };
    ($plugin:ty, $component:ident, $with:ident, mail) => {
        impl $crate::bindings::mail::exports::waypost::plugin::on_mail::Guest for $component {
            fn mail(sender: ::std::string::String) -> $crate::Outcome {
                $with(|plugin, host| $crate::Plugin::mail(plugin, host, &sender))
            }
        }
        $crate::__export_sdk_mail_impl!($component with_types_in $crate::bindings::mail);
    };
    ($plugin:ty, $component:ident, $with:ident, rcpt) => {
        impl $crate::bindings::rcpt::exports::waypost::plugin::on_rcpt::Guest for $component {
            fn check(recipient: $crate::Recipient) -> $crate::Outcome {
                $with(|plugin, host| $crate::Plugin::rcpt(plugin, host, &recipient))
            }
        }
        $crate::__export_sdk_rcpt_impl!($component with_types_in $crate::bindings::rcpt);
    };
    ($plugin:ty, $component:ident, $with:ident, rcpt_batch) => {
        impl $crate::bindings::rcpt_batch::exports::waypost::plugin::on_rcpt_batch::Guest for $component {
            fn check_all(recipients: ::std::vec::Vec<$crate::Recipient>) -> ::std::vec::Vec<$crate::Outcome> {
                $with(|plugin, host| $crate::Plugin::rcpt_batch(plugin, host, &recipients))
            }
        }
        $crate::__export_sdk_rcpt_batch_impl!($component with_types_in $crate::bindings::rcpt_batch);
    };
    ($plugin:ty, $component:ident, $with:ident, data) => {
        impl $crate::bindings::data::exports::waypost::plugin::on_data::Guest for $component {
            fn data() -> $crate::Outcome {
                $with(|plugin, host| $crate::Plugin::data(plugin, host))
            }
        }
        $crate::__export_sdk_data_impl!($component with_types_in $crate::bindings::data);
    };
    ($plugin:ty, $component:ident, $with:ident, headers) => {
        impl $crate::bindings::headers::exports::waypost::plugin::on_headers::Guest for $component {
            fn headers() -> $crate::Outcome {
                $with(|plugin, host| $crate::Plugin::headers(plugin, host))
            }
        }
        $crate::__export_sdk_headers_impl!($component with_types_in $crate::bindings::headers);
    };
    ($plugin:ty, $component:ident, $with:ident, message) => {
        impl $crate::bindings::message::exports::waypost::plugin::on_message::Guest for $component {
            fn message() -> $crate::Outcome {
                $with(|plugin, host| $crate::Plugin::message(plugin, host))
            }
        }
        $crate::__export_sdk_message_impl!($component with_types_in $crate::bindings::message);
    };
    ($plugin:ty, $component:ident, $with:ident, queue) => {
        impl $crate::bindings::queue::exports::waypost::plugin::on_queue::Guest for $component {
            fn enqueue(queue_id: ::std::string::String) -> $crate::Outcome {
                $with(|plugin, host| $crate::Plugin::queue(plugin, host, &queue_id))
            }
        }
        $crate::__export_sdk_queue_impl!($component with_types_in $crate::bindings::queue);
    };
    ($plugin:ty, $component:ident, $with:ident, route) => {
        impl $crate::bindings::route::exports::waypost::plugin::on_route::Guest for $component {
            fn route(
                domain: ::std::string::String,
            ) -> ::std::result::Result<::std::option::Option<$crate::types::NextRoute>, ::std::string::String> {
                $with(|plugin, host| $crate::Plugin::route(plugin, host, &domain))
            }
        }
        $crate::__export_sdk_route_impl!($component with_types_in $crate::bindings::route);
    };
    ($plugin:ty, $component:ident, $with:ident, delivery) => {
        impl $crate::bindings::delivery::exports::waypost::plugin::on_delivery::Guest for $component {
            fn events(batch: ::std::vec::Vec<$crate::types::DeliveryEvent>) {
                $with(|plugin, host| $crate::Plugin::delivery(plugin, host, &batch))
            }
        }
        $crate::__export_sdk_delivery_impl!($component with_types_in $crate::bindings::delivery);
    };
    ($plugin:ty, $component:ident, $with:ident, command) => {
        impl $crate::bindings::command::exports::waypost::plugin::on_command::Guest for $component {
            fn command(
                name: ::std::string::String,
                argument: ::std::string::String,
            ) -> ::std::result::Result<::std::string::String, ::std::string::String> {
                $with(|plugin, host| $crate::Plugin::command(plugin, host, &name, &argument))
            }
        }
        $crate::__export_sdk_command_impl!($component with_types_in $crate::bindings::command);
    };
    ($plugin:ty, $component:ident, $with:ident, timer) => {
        impl $crate::bindings::timer::exports::waypost::plugin::on_timer::Guest for $component {
            fn tick() {
                $with(|plugin, host| $crate::Plugin::timer(plugin, host))
            }
        }
        $crate::__export_sdk_timer_impl!($component with_types_in $crate::bindings::timer);
    };
}
