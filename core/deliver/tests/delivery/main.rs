//! The courier with a store in memory, real sockets and scripted peers.

#![allow(unreachable_pub)] // Modules of one test binary.

mod cost;
mod failures;
mod house;
mod local;
mod peer;
mod relay;
mod shaping;
mod tls;
