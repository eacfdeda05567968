//! `http` (grant: URL prefixes): exchanges with named hosts. What was not granted is an error of the exchange.

use std::time::Duration;

use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::Task;
use waypost_types::port::FetchRequest;

use super::{all, function, waiting};
use crate::case::Ctx;
use crate::wit::{WitRequest, WitResponse};

type Fetched = Result<WitResponse, String>;

/// Links `http`. Without the grant nothing in it waits, and the plugin runs without a fiber.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>, granted: bool) -> Result<()> {
    if !granted {
        let refused = || -> Fetched { Err("the grant `http` is missing".into()) };
        function(linker, "fetch", move |_, (_,): (WitRequest,)| Ok(refused()))?;
        return function(linker, "fetch-many", move |_, (requests,): (Vec<WitRequest>,)| {
            Ok(requests.iter().map(|_| refused()).collect::<Vec<_>>())
        });
    }
    waiting(linker, "fetch", |ctx, (request,): (WitRequest,)| Ok(exchange(ctx, request)))?;
    waiting(linker, "fetch-many", |ctx, (requests,): (Vec<WitRequest>,)| {
        let tasks: Vec<_> = requests.into_iter().map(|request| exchange(ctx, request)).collect();
        Ok(Box::pin(all(tasks)) as Task<'static, Vec<Fetched>>)
    })
}

fn exchange(ctx: &mut Ctx, request: WitRequest) -> Task<'static, Fetched> {
    match prepare(ctx, &request) {
        Err(problem) => Box::pin(std::future::ready(Err(problem))),
        Ok((fetch, wall)) => {
            let mut request = FetchRequest::from(request);
            request.timeout = request.timeout.min(wall);
            Box::pin(async move { fetch.fetch(&request).await.map(WitResponse::from) })
        }
    }
}

fn prepare(
    ctx: &mut Ctx,
    request: &WitRequest,
) -> Result<(std::sync::Arc<dyn waypost_types::port::Fetch>, Duration), String> {
    if ctx.case.question.is_none() {
        return Err("there are no exchanges during `init`".into());
    }
    if !ctx.shared.grants.http.iter().any(|prefix| is_below(&request.url, prefix)) {
        return Err(format!("`{}` is not granted: add it to the plugin's `http`", request.url.escape_debug()));
    }
    let fetch = ctx.shared.ports.fetch.clone().ok_or("this server has no HTTP client")?;
    if ctx.case.seat.fetches >= ctx.shared.limits.fetches {
        return Err("the limit `fetches` of the transaction was reached".into());
    }
    ctx.case.seat.fetches += 1;
    Ok((fetch, ctx.call.wall.saturating_sub(ctx.call.started.elapsed())))
}

/// Whether `url` lies below `prefix`. Nothing that readers of URLs disagree about is below anything: user names, backslashes,
/// dot segments (also written with %), control characters.
fn is_below(url: &str, prefix: &str) -> bool {
    let plain = url.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'@' | b'#'));
    let path = url.split('?').next().unwrap_or_default().to_ascii_lowercase().replace("%2e", ".");
    let dots =
        path.split('/').any(|segment| matches!(segment, "." | "..")) || path.contains("%2f") || path.contains("%5c");
    let Some(rest) = url.strip_prefix(prefix).filter(|_| plain && !dots) else {
        return false;
    };
    rest.is_empty() || prefix.ends_with('/') || rest.starts_with(['/', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_a_prefix_is_fetched() {
        let below = |url| is_below(url, "https://api.example.net/v1");
        assert!(below("https://api.example.net/v1"));
        assert!(below("https://api.example.net/v1/x?y=../z"));
        for url in [
            "https://api.example.net/v10",
            "https://api.example.net.evil.example/v1",
            "https://api.example.net/v1/../admin",
            "https://api.example.net/v1/%2e%2E/admin",
            "https://api.example.net/v1/..%2fadmin",
            "https://api.example.net@evil.example/v1",
            "http://api.example.net/v1",
            "https://api.example.net/v1/\\..\\x",
        ] {
            assert!(!below(url), "{url}");
        }
        assert!(!is_below("https://a.example:8080/", "https://a.example"));
        assert!(!is_below("https://a.example.evil/", "https://a.example"));
    }
}
