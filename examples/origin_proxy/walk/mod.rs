//! The walk: real requests through proxies, each showing one thing that a cache does.

mod cloudfront;
mod fastly;
mod site;
mod table;
mod tour;

use std::net::SocketAddr;
use std::time::Duration;

use larder::ClockHand;

use self::site::Site;
use self::table::Walk;
use crate::stop::Stop;

/// Starts origin and proxies and walks, then serves until it is stopped, unless `once`; whether every row was as expected.
pub async fn run(once: bool) -> Result<bool, String> {
    let site = Site::start().await?;
    let mut walk = Walk::new(site.hand.clone());
    let plain = tour::walk(&mut walk, &site).await?;
    let distribution = cloudfront::walk(&mut walk, &site).await?;
    let service = fastly::walk(&mut walk, &site).await?;
    let is_expected = walk.ends();
    if !once {
        try_it(plain, distribution, service);
        let mut stop = Stop::by_signal()?;
        tokio::select! {
            () = go(site.hand) => {}
            () = stop.asked() => {}
        }
    }
    Ok(is_expected)
}

/// Lets the clock run from now on.
async fn go(hand: ClockHand) {
    const TICK: Duration = Duration::from_millis(10);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        hand.advance(TICK);
    }
}

fn try_it(plain: SocketAddr, distribution: SocketAddr, service: SocketAddr) {
    println!("\nServing on until Ctrl-C. Try:\n");
    for (arguments, address, path, shows) in [
        ("-i", plain, "/article/7", "twice, and again after two seconds"),
        ("-i -H 'Authorization: user:one'", plain, "/me", "then user:two"),
        ("-i -X POST", plain, "/article/7", "an edit: the next GET is a miss"),
        ("-i --compressed", plain, "/", "another variant of the page"),
        ("-i -H 'X-Fail: 503'", plain, "/flaky", "after one without: hidden"),
        ("-s -o /dev/null -D - -r 0-99", plain, "/video", "a part"),
        ("-i -H 'Authorization: user:one'", distribution, "/account", "by CloudFront's rules"),
        ("-i", service, "/news", "by Fastly's"),
    ] {
        println!("  {:<72} # {shows}", format!("curl {arguments} http://{address}{path}"));
    }
}
