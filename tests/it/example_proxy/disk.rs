//! A proxy that stores in a folder: its options, restarts, kills, and whoever else wants the folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::any;
use bytes::Bytes;

use super::process::{Proxy, in_time, run};
use super::store::{Site, counting, next, page, says, token};
use crate::support::file::{TempFile, TempFolder};
use crate::support::raw::{Client, Origin};
use crate::support::servers::{Kind, Server};
use crate::support::wire;

/// Whichever port the proxy has.
pub const HOST: [(&str, &str); 1] = [("host", "a.example")];

/// `--store` for a folder.
pub fn on_disk(folder: &Path) -> String {
    format!("disk:{}", folder.display())
}

#[test]
fn options_about_a_folder_that_make_no_store_are_reported_in_one_sentence_with_exit_status_2() {
    let (folder, file) = (TempFolder::new(), TempFile::new("txt", "no folder"));
    let store = on_disk(&folder.path().join("cache"));
    let small = format!("{store},100MiB");
    let below_file = format!("disk:{}/cache", file.name());
    for (arguments, said) in [
        (&["--store", "disk:"][..], "--store disk: names no folder"),
        (&["--store", "disk:,1GiB"], "--store disk: names no folder"),
        (&["--store", &format!("{store},lots")], "--store: 'lots' is not a size; one looks like 64MiB"),
        (&["--store", &format!("{store},")], "--store: '' is not a size"),
        (&["--store", &format!("{store},1023KiB")], "--store disk: 1023KiB is too small; 1MiB is the least"),
        (&["--store", &store, "--store", &small], "there is one --store disk at most"),
        (&["--store", &store, "--store", "memory"], "--store memory is nearer than disk: give it first"),
        (&["--store", "redis://a", "--store", &store], "--store disk is nearer than Redis: give it first"),
        (&["--store", &store, "--memory", "1MiB"], "--memory is for --store memory alone; --near says"),
        (&["--store", &store, "--lease"], "--lease goes with a --store in Redis"),
        (&["--store", &store, "--snapshot", "a"], "what is on the disk is there after a restart by itself"),
        (&["--store", &small, "--max-object", "46MiB"], "--max-object is above 45MiB, the most that"),
        (&["--store", &small, "--max-object", "46MiB"], "takes of 100MiB in "),
        (&["--store", &store, "--admit-after", "0"], "'0' is not a number of requests; it is 1 to 255"),
        (&["--store", &below_file], "cannot be used as a store: Not a directory"),
        (&["--store", &on_disk(file.path())], "cannot be used as a store: "),
    ] {
        let upstream = ["proxy", "--upstream=http://127.0.0.1:1", "--listen", "127.0.0.1:0"];
        let output = run(&[&upstream, arguments].concat());
        let text = says(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    assert!(!folder.path().join("cache").exists(), "what makes no store makes no folder");
}

#[test]
fn a_file_names_a_folder_from_its_own_place_and_checking_it_takes_nothing_from_a_proxy_that_runs() {
    let (folder, origin) = (TempFolder::new(), Origin::new());
    let content = |store: &str| {
        format!(
            "upstream = '{}'\nlisten = '127.0.0.1:0'\nstore = ['memory', '{store}']\nnear = '1MiB'\n\
             max-object = '20MiB'\n",
            origin.upstream()
        )
    };
    let config = folder.write("larder.toml", content("disk:my@cache,100MiB"));
    let check = || {
        let output = run(&["check-config", config.to_str().unwrap()]);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let mut command = super::process::example();
    let (proxy, lines) = Proxy::of_command_with_lines(command.args(["proxy", "--config"]).arg(&config));
    let place = folder.path().join("my@cache");
    let line = next(&lines, "stored in");
    assert_eq!(line, format!("larder: stored in 1MiB of memory before 100MiB in {}", place.display()));
    assert!(place.join("lock").exists());
    let (status, text) = check();
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("\nstore = \"disk:my@cache,100MiB\"\n"), "{text}");
    drop(proxy);
    fs::write(&config, content("disk:larder.toml")).unwrap();
    let (status, text) = check();
    assert!(status == Some(1) && text.contains("larder.toml is not a folder"), "{text}");
    fs::write(&config, content("disk:cache,many")).unwrap();
    let (status, text) = check();
    assert!(status == Some(1) && text.contains("larder.toml:3: --store: 'many' is not a size"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_disk_survives_a_restart_and_a_kill_without_what_was_purged() {
    for more in [&[][..], &["--near", "1MiB"]] {
        let (folder, token, (upstream, calls)) = (TempFolder::new(), token(), counting().await);
        let store = on_disk(&folder.path().join("cache"));
        let options = [&["--store", &store][..], more].concat();
        let start = || Site::with(&upstream, &token, &options);
        let site = start();
        assert_eq!([site.get("/kept").content, site.get("/purged").content], ["1", "2"]);
        site.operate("POST /purge", "{\"url\":\"http://a.example/purged\"}").has("HTTP/1.1 200 OK");
        site.ends();
        let site = start();
        site.get("/kept").is("HTTP/1.1 200 OK", "1").has("larder; hit; ttl=");
        assert_eq!([site.get("/purged").content, site.get("/later").content], ["3", "4"]);
        site.operate("POST /purge", "{\"url\":\"http://a.example/kept\"}").has("HTTP/1.1 200 OK");
        // A kill.
        drop(site);
        let site = start();
        site.get("/later").is("HTTP/1.1 200 OK", "4").has("larder; hit; ttl=");
        site.get("/purged").is("HTTP/1.1 200 OK", "3").has("larder; hit; ttl=");
        assert_eq!(site.get("/kept").content, "5");
        assert_eq!(calls.load(Ordering::SeqCst), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_one_folder_says_so_with_exit_status_2_and_the_first_one_goes_on() {
    let (folder, token, (upstream, _)) = (TempFolder::new(), token(), counting().await);
    let store = on_disk(folder.path());
    let site = Site::with(&upstream, &token, &["--store", &store]);
    site.get("/x");
    let second = ["proxy", "--listen", "127.0.0.1:0", "--upstream", &upstream, "--store", &store];
    let output = run(&second);
    let text = says(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
    let name = folder.path().display();
    let said = format!("--store disk: the folder {name} cannot be used as a store: another process");
    assert!(text.contains(&said) && text.contains("a folder of its own"), "{text}");
    site.get("/x").is("HTTP/1.1 200 OK", "1").has("larder; hit; ttl=");
    // A proxy that was stopped leaves the folder to the next one.
    site.ends();
    let site = Site::with(&upstream, &token, &["--store", &store]);
    site.get("/x").is("HTTP/1.1 200 OK", "1").has("larder; hit; ttl=");
}

#[test]
fn what_is_under_way_when_a_proxy_is_stopped_is_on_the_disk_for_the_next_one() {
    let (folder, origin, token) = (TempFolder::new(), Origin::new(), token());
    let store = on_disk(folder.path());
    let start = || Site::with(&origin.upstream(), &token, &["--store", &store]);
    let site = start();
    let mut client = Client::of(&site.node.proxy);
    client.get("/x");
    let mut asked = origin.asked("/x");
    site.node.proxy.signal("TERM");
    site.node.proxy.listens_no_more();
    asked.answer(&page("end"));
    client.next().is("HTTP/1.1 200 OK", "end");
    assert!(site.node.proxy.ends_well());
    let site = start();
    site.get("/x").is("HTTP/1.1 200 OK", "end").has("larder; hit; ttl=");
    origin.was_not_asked();
}

/// An origin of one file of so many bytes.
async fn large(length: usize) -> (String, Bytes, Arc<AtomicUsize>) {
    let content: Bytes = (0..length).map(|place| (place / 7 % 251) as u8).collect::<Vec<_>>().into();
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, sent) = (Arc::clone(&calls), content.clone());
    let answer = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let sent = sent.clone();
        async move { ([("cache-control", "max-age=600")], sent) }
    };
    let address = wire::serve_router(Router::new().fallback(any(answer))).await;
    (format!("http://{address}"), content, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_object_is_a_quarter_of_the_folder_unless_an_option_says_more() {
    let (upstream, content, calls) = large(12 << 20).await;
    let token = token();
    for (size, more, is_stored) in [
        ("48MiB", &[][..], true),
        ("47MiB", &[], false),
        ("32MiB", &["--max-object", "14MiB"], true),
        ("32MiB", &["--max-object", "14MiB", "--near", "1MiB"], true),
        ("48MiB", &["--max-object", "11MiB"], false),
    ] {
        let folder = TempFolder::new();
        let store = format!("{},{size}", on_disk(folder.path()));
        let options = [&["--store", &store][..], more].concat();
        let site = Site::with(&upstream, &token, &options);
        let before = calls.load(Ordering::SeqCst);
        let get = async |site: &Site| {
            let (head, bytes) = wire::get_bytes(site.node.proxy.address, "/film", &HOST).await;
            assert!(head.status == 200 && bytes == content, "{options:?}");
            site.node.has_stored();
        };
        get(&site).await;
        get(&site).await;
        site.ends();
        let site = Site::with(&upstream, &token, &options);
        get(&site).await;
        let asked = if is_stored { 1 } else { 3 };
        assert_eq!(calls.load(Ordering::SeqCst) - before, asked, "{options:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_got_is_on_the_disk_when_the_proxy_is_stopped_at_once() {
    let (upstream, content, calls) = large(12 << 20).await;
    let token = token();
    for _ in 0..5 {
        let (folder, before) = (TempFolder::new(), calls.load(Ordering::SeqCst));
        let store = on_disk(folder.path());
        let options = ["--store", &store, "--near", "1MiB"];
        for _ in 0..2 {
            let site = Site::with(&upstream, &token, &options);
            let (head, bytes) = wire::get_bytes(site.node.proxy.address, "/film", &HOST).await;
            assert!(head.status == 200 && bytes == content);
            // Without waiting for the store, which may not have the last of it yet.
            site.ends();
        }
        assert_eq!(calls.load(Ordering::SeqCst) - before, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_before_redis_answers_and_goes_by_the_purges_of_others() {
    let (server, token) = (Server::start(Kind::Redis), token());
    for near in [&[][..], &["--near", "1MiB"]] {
        let (upstream, calls) = counting().await;
        let (url, folders) = (server.url(), [TempFolder::new(), TempFolder::new()]);
        let [one, other] = folders.each_ref().map(|folder| {
            let store = on_disk(folder.path());
            Site::start(&upstream, &token, &[near, &["--store", &store, "--store", &url]].concat())
        });
        assert_eq!(one.get("/x").content, "1");
        other.get("/x").is("HTTP/1.1 200 OK", "1").has("larder; hit; ttl=");
        one.operate("POST /purge", "{\"url\":\"http://a.example/x\"}").has("HTTP/1.1 200 OK");
        assert_eq!(one.get("/x").content, "2");
        in_time("the other one has heard of the purge", || (other.get("/x").content == "2").then_some(()));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        one.operate("POST /purge", "{\"all\":true}").has("HTTP/1.1 200 OK");
    }
}

/// How many records there are in a folder.
fn records(folder: &Path) -> usize {
    let folders = fs::read_dir(folder.join("entries")).unwrap().map(|folder| folder.unwrap().path());
    folders.map(|folder| fs::read_dir(folder).unwrap().count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_once_is_not_written_to_the_disk_where_an_option_says_so() {
    const ALL: usize = 200;
    const AGAIN: usize = 20;
    let (token, (upstream, calls)) = (token(), counting().await);
    for near in [&[][..], &["--near", "16MiB"]] {
        let (folder, before) = (TempFolder::new(), calls.load(Ordering::SeqCst));
        let store = on_disk(folder.path());
        let options = [&["--store", &store, "--admit-after", "2"][..], near].concat();
        let site = Site::with(&upstream, &token, &options);
        let refused = "larder; fwd=uri-miss; detail=\"admission\"\r\n";
        let said = if near.is_empty() { refused } else { "larder; fwd=uri-miss; stored; ttl=" };
        for url in 0..ALL {
            site.get(&format!("/{url}")).has(said);
        }
        assert_eq!(records(folder.path()), 0, "{near:?}");
        for url in 0..AGAIN {
            site.get(&format!("/{url}"));
        }
        in_time("they are written", || (records(folder.path()) == AGAIN).then_some(()));
        assert_eq!(site.node.stats()["store"]["disk"]["entries"], AGAIN);
        let metrics = site.operate("GET /metrics", "").content;
        let counted = format!("larder_store_disk_entries {AGAIN}");
        assert!(metrics.lines().any(|line| line == counted), "{metrics}");
        let asked = if near.is_empty() { ALL + AGAIN } else { ALL };
        assert_eq!(calls.load(Ordering::SeqCst) - before, asked);
        site.ends();
        let site = Site::with(&upstream, &token, &options);
        for url in 0..AGAIN {
            site.get(&format!("/{url}")).has("larder; hit; ttl=");
        }
        assert_eq!(calls.load(Ordering::SeqCst) - before, asked);
    }
}
