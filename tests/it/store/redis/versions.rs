//! Versions of the library side by side on one server (F14).

use larder::CacheKey;
use larder::store::record::RecordNames;
use larder::store::{PurgeTarget, Store};

use super::{HIT, Node, config, namespace};
use crate::support::Reply;
use crate::support::servers::{Answer, Kind, Server};

fn key(path: &str) -> CacheKey {
    CacheKey::from_uri(&format!("http://example.com{path}").parse().unwrap()).unwrap()
}

/// A server, a namespace, and two nodes.
fn two_nodes(kind: Kind) -> (Server, String, [Node; 2]) {
    let (server, namespace) = (Server::start(kind), namespace());
    let nodes = [(); 2].map(|()| Node::new(config(&server.url()).namespace(&namespace)));
    (server, namespace, nodes)
}

#[tokio::test]
async fn f14_the_keys_of_another_format_are_left_alone_and_their_purges_are_not_those_of_this_one() {
    for kind in Kind::ALL {
        let (server, namespace, [one, other]) = two_nodes(kind);
        one.fill("/", "here").await;
        one.purge(PurgeTarget::tag("other")).await.unwrap();
        // What a later version has in the same namespace: all names have its format, and their values are its own business.
        let of_format_2 = |name: &str| {
            let name = name.replace(&format!("{namespace}.1"), &format!("{namespace}.2"));
            assert!(name.contains(".2"), "{name}");
            name
        };
        let log = ["n", "l", "s"].map(|name| of_format_2(&format!("{{{namespace}.1}}:{name}")));
        let record = of_format_2(&RecordNames::new(&namespace).of(&key("/")));
        server.ask(&["SET", &log[0], "a state of another form"]);
        server.ask(&["XADD", &log[1], "1-0", "t", "everything"]);
        server.ask(&["HSET", &log[2], "i", "1"]);
        server.ask(&["SET", &record, "a record of another form"]);
        let theirs = || {
            let values = [&log[0], &record].map(|name| server.ask(&["GET", name]));
            let log = [server.ask(&["XRANGE", &log[1], "-", "+"]), server.ask(&["HGETALL", &log[2]])];
            (values, log)
        };
        let before = theirs();
        other.get("/").await.has_body("here").told(HIT);
        other.purge(PurgeTarget::All).await.unwrap();
        one.fill("/", "again").await;
        other.get("/").await.has_body("again").told(HIT);
        assert_eq!(theirs(), before);
    }
}

#[tokio::test]
async fn f14_a_record_of_another_format_under_a_name_of_this_one_is_a_miss_and_no_look_up_writes_over_it() {
    let (server, namespace, [one, other]) = two_nodes(Kind::Redis);
    let name = RecordNames::new(&namespace).of(&key("/"));
    one.fill("/", "here").await;
    let mut later = server.ask(&["GET", &name]).bytes().unwrap();
    later[6] += 1; // the format, after the magic
    assert_eq!(server.ask_bytes(&[b"SET", name.as_bytes(), &later]), Answer::Text(b"OK".to_vec()));
    assert!(other.store.get(&key("/")).await.unwrap().variants.is_empty());
    other.bench.origin.then(Reply::cc("not stored", "no-store"));
    other.get("/").await.has_body("not stored");
    assert_eq!(server.ask(&["GET", &name]).bytes().unwrap(), later);
    // What is stored there takes its place.
    other.fill("/", "new").await;
    one.get("/").await.has_body("new").told(HIT);
}

/// Appends an entry as another version of this format would, and gives its number.
fn append(server: &Server, namespace: &str, purge: &[u8], mark: &str) {
    const APPEND: &str = "local incarnation, base, last = string.match(redis.call('GET', KEYS[1]), '^(%x+):(%d+):(%d+)$') \
        local number = string.format('%.0f', tonumber(last) + 1) \
        redis.call('HSET', KEYS[3], ARGV[2], number) \
        redis.call('XADD', KEYS[2], number .. '-0', 'p', last, 't', ARGV[1], 'of a later version', 'something') \
        redis.call('SET', KEYS[1], incarnation .. ':' .. base .. ':' .. number) \
        return 1";
    let keys = ["n", "l", "s"].map(|name| format!("{{{namespace}.1}}:{name}"));
    let words =
        [b"EVAL", APPEND.as_bytes(), b"3", keys[0].as_bytes(), keys[1].as_bytes(), keys[2].as_bytes()];
    let answer = server.ask_bytes(&[&words[..], &[purge, mark.as_bytes()]].concat());
    assert_eq!(answer, Answer::Number(1));
}

#[tokio::test]
async fn f14_a_purge_that_only_a_later_version_can_read_is_one_of_everything() {
    for kind in Kind::ALL {
        // By its entry, and by its mark in the table for a node that starts when the log is trimmed.
        for is_trimmed in [false, true] {
            let (server, namespace, [one, other]) = two_nodes(kind);
            one.fill("/", "old").await;
            other.get("/").await.has_body("old").told(HIT);
            append(&server, &namespace, b"\xffof a later version", "z of a later version");
            if is_trimmed {
                server.ask(&["XTRIM", &format!("{{{namespace}.1}}:l"), "MAXLEN", "0"]);
            }
            let late = Node::new(config(&server.url()).namespace(&namespace));
            for node in [&late, &other, &one] {
                node.bench.origin.then(Reply::cc("new", "max-age=60, no-store"));
                assert_eq!(node.get("/").await.body, "new", "{kind:?} {is_trimmed}");
            }
            // Purges of this version go on, and so does what is stored.
            one.fill("/", "new").await;
            late.get("/").await.has_body("new").told(HIT);
            late.purge(PurgeTarget::tag("news")).await.unwrap();
            other.fill("/", "newer").await;
        }
    }
}
