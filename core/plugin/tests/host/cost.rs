//! What a call costs. Prints figures (`--nocapture`) and fails only when they are out of all proportion.

use std::time::{Duration, Instant};

use waypost_plugin::{Grants, Host, Isolation, PluginOptions};
use waypost_types::Judge;

use crate::bench::*;

const ROUNDS: u32 = 40_000;
const BATCHES: u32 = 10;

/// CPU time of this thread, which a busy machine does not stretch; wall time where the system does not tell.
fn spent() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// The median of batches, each a mean, in nanoseconds a call.
async fn measure(host: &Host, what: &str) -> u64 {
    let mut jury = host.open();
    let question = rcpt_question(&format!("{what}@test.example"));
    let mut batches = vec![];
    for _ in 0..BATCHES {
        let started = spent();
        for _ in 0..ROUNDS / BATCHES {
            jury.judge(question.clone()).await;
        }
        batches.push((spent() - started).as_nanos() as u64 / u64::from(ROUNDS / BATCHES));
        jury.reset();
    }
    batches.sort_unstable();
    batches[batches.len() / 2]
}

#[tokio::test]
async fn a_call_costs_microseconds() {
    let world = World::default();
    let pooled = PluginOptions { isolation: Isolation::Pooled, ..probe() };
    let fiber = PluginOptions { grants: Grants { dns: true, ..Grants::default() }, ..pooled.clone() };
    let direct = measure(&world.host(vec![pooled.clone()]), "ok").await;
    let simple = measure(&world.host(vec![pooled]), "simple").await;
    let on_fiber = measure(&world.host(vec![fiber.clone()]), "simple").await;
    let dns = measure(&world.host(vec![fiber]), "dns").await;
    println!("pooled, no host call      {direct:>6} ns");
    println!("pooled, three host calls  {simple:>6} ns");
    println!("the same on a fiber       {on_fiber:>6} ns");
    println!("one DNS question          {dns:>6} ns");
    assert!(simple < 100_000, "{simple} ns");
}

#[tokio::test]
async fn a_fresh_instance_costs_tens_of_microseconds() {
    let host = World::default().host(vec![probe()]);
    let mut jury = host.open();
    let started = spent();
    for _ in 0..500 {
        rcpt(&mut jury, "simple").await;
        jury.reset();
    }
    let each = (spent() - started) / 500;
    println!("fresh instance, init, one call, drop  {each:?}");
    assert!(each < Duration::from_millis(5), "{each:?}");
}

#[test]
fn a_stage_that_nobody_wants_costs_nothing() {
    let host = World::default().host(vec![]);
    let started = Instant::now();
    for _ in 0..ROUNDS {
        let jury = host.open();
        assert_eq!(jury.stages(), host.stages());
    }
    println!("session without plugins   {:>6} ns", started.elapsed().as_nanos() / u128::from(ROUNDS));
}

#[test]
fn a_warm_start_takes_milliseconds() {
    let world = World::default();
    world.host(vec![probe()]);
    let started = Instant::now();
    let plugins = (0..10).map(|n| PluginOptions { name: format!("probe-{n}"), ..probe() });
    world.host(plugins.collect());
    println!("warm start, ten plugins   {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_chain_of_four_that_are_asked_and_pass_costs_microseconds_and_who_is_not_interested_nothing() {
    let world = World::default();
    let named = |n: u32| PluginOptions { name: format!("probe-{n}"), isolation: Isolation::Pooled, ..probe() };
    let four = measure(&world.host((0..4).map(named).collect()), "simple").await;
    // Asked for another domain's recipients only: its registration is looked at, and nobody is asked.
    let narrow = |n: u32| PluginOptions {
        name: format!("narrow-{n}"),
        ..PluginOptions::new("x", waypost_plugin::Source::Bytes(guest("narrow")))
    };
    let with_narrow = measure(&world.host((0..4).map(named).chain((0..4).map(narrow)).collect()), "simple").await;
    println!("four plugins, a stage     {four:>6} ns");
    println!("and four not interested   {with_narrow:>6} ns");
    assert!(four < 400_000 && with_narrow < four * 3, "{four} {with_narrow} ns");
}
