//! What somebody else writes into the keys of the store (A23, A28): nothing that was purged is served, and requests are answered.

use larder::store::PurgeTarget;

use super::{HIT, Node, config, namespace};
use crate::support::Reply;
use crate::support::servers::{Answer, Kind, Server};

/// What is found in place of the counter, the log, or the table of purges: commands, with `KEY` for the name.
const HOSTILE: &[&[&[&str]]] = &[
    &[&["SET", "KEY", ""]],
    &[&["SET", "KEY", "something else"]],
    &[&["SET", "KEY", "0:0:0"]],
    &[&["SET", "KEY", "1:1:18446744073709551615"]],
    &[&["SET", "KEY", "ffffffffffffffffff:99999999999999999999:99999999999999999999"]],
    &[&["SADD", "KEY", "x"]],
    &[&["RPUSH", "KEY", "x"]],
    &[&["HSET", "KEY", "i", "something else"]],
    &[&["HSET", "KEY", "i", "1", "ar", "something else"]],
    &[&["HSET", "KEY", "i", "1", "ar", "99999999999999999999"]],
    &[&["HSET", "KEY", "", ""]],
    &[&["XADD", "KEY", "1-0", "x", "y"]],
    &[&["XADD", "KEY", "1-7", "p", "0", "t", "x"]],
    &[&["XADD", "KEY", "18446744073709551615-0", "p", "18446744073709551615", "t", ""]],
    &[&["XADD", "KEY", "5-0", "p", "9", "t", "x"], &["XADD", "KEY", "7-0", "p", "3", "t", "x"]],
];

#[tokio::test]
async fn a23_whatever_is_found_in_place_of_the_log_of_purges_nothing_comes_back_and_requests_are_answered() {
    let server = Server::start(Kind::Redis);
    for (name, hostile) in
        ["n", "l", "s"].iter().flat_map(|name| HOSTILE.iter().map(move |hostile| (name, hostile)))
    {
        let namespace = namespace();
        let node = || Node::new(config(&server.url()).namespace(&namespace));
        let (one, other) = (node(), node());
        one.fill("/", "old").await;
        other.get("/").await.has_body("old").told(HIT);
        other.purge(PurgeTarget::tag("news")).await.unwrap();
        let key = format!("{{{namespace}.1}}:{name}");
        server.ask(&["DEL", &key]);
        for command in *hostile {
            let words: Vec<_> =
                command.iter().map(|word| if *word == "KEY" { &key } else { *word }).collect();
            let answer = server.ask(&words);
            assert!(!matches!(answer, Answer::Error(_)), "{answer:?}");
        }
        for asked in [node(), other, one] {
            asked.bench.origin.then(Reply::cc("new", "max-age=60"));
            for _ in 0..2 {
                assert_eq!(asked.get("/").await.body, "new", "{name} {hostile:?}");
            }
            // It succeeds, or says that it does not.
            let purged = asked.purge(PurgeTarget::tag("other")).await;
            drop(purged);
        }
        // Without what was written, all is well again.
        for name in ["n", "l", "s"] {
            server.ask(&["DEL", &format!("{{{namespace}.1}}:{name}")]);
        }
        let (one, other) = (node(), node());
        one.fill("/other", "stored").await;
        other.get("/other").await.has_body("stored").told(HIT);
        other.purge(PurgeTarget::All).await.unwrap();
        one.fill("/other", "stored again").await;
    }
}
