//! The page for people: how the server is, and what else can be asked. No script, no outside resource.

use std::fmt::Write;

use super::Admin;

/// The page as HTML.
pub(super) fn render(admin: &Admin) -> String {
    let queue = admin.desk.store.counts();
    let counters = admin.observe.counters();
    let mut rows = String::new();
    let mut row = |name: &str, value: u64| {
        let _ = write!(rows, "<tr><th scope=row>{name}<td>{value}");
    };
    row("messages in the queue", queue.entries);
    row("being worked on", queue.claimed);
    row("held", queue.held);
    row("set aside as unreadable", queue.corrupt);
    row("sessions open", counters.sessions());
    for (name, value) in counters.totals() {
        row(name, value);
    }
    let (class, health) = if counters.store_has_failed() {
        ("bad", "the store takes no writes: look for store_failed in the log")
    } else {
        ("good", "taking and delivering mail")
    };
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><meta http-equiv=refresh content=5>\
         <title>Waypost on {host}</title><style>{STYLE}</style>\
         <h1>Waypost <small>{version} on {host}</small></h1><p class={class}>{health}</p>\
         <table>{rows}</table><p>Since the start, where it is a count. <a href=/metrics>/metrics</a> has everything for Prometheus, \
         <a href=/healthz>/healthz</a> is for load balancers; <code>waypost queue list</code> shows the messages.</p>",
        host = escape(&admin.hostname),
        version = env!("CARGO_PKG_VERSION"),
    )
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fdfdfb}\
    small{font-weight:400;color:#555}table{border-collapse:collapse;width:100%}th{text-align:left;font-weight:400}\
    td{text-align:right;font-variant-numeric:tabular-nums}th,td{padding:.3rem 0;border-bottom:1px solid #ddd}\
    .good::before{content:'\\25CF ';color:#2a7d2a}.bad::before{content:'\\25CF ';color:#b00020}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}small{color:#aaa}a{color:#8ab4f8}}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
