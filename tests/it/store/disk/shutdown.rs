//! Stores that are closed, and runtimes that end, while something is being written (F16).

use std::time::Duration;

use larder::store::Store;
use larder::{BoxStore, CacheLayer};

use super::{Node, Place, large};
use crate::support::{Client, Stage, Step, settle};

fn staged(place: &Place) -> usize {
    std::fs::read_dir(place.path().join("staged")).unwrap().count()
}

fn head() -> Step {
    Step::head(200, &[("cache-control", "max-age=60"), ("etag", "\"1\""), ("content-length", "300000")])
}

/// What is there is whole, and what is not comes from the origin.
async fn is_right(place: &Place, paths: usize) -> usize {
    let node = Node::open(place).await;
    assert_eq!(staged(place), 0);
    let mut hits = 0;
    for number in 0..paths {
        for (path, body) in [(format!("/{number}"), large()), (format!("/small/{number}"), "small".into())] {
            hits += usize::from(node.fetch(&path, &body).await.is_hit());
        }
    }
    node.store.close().await;
    hits
}

#[tokio::test]
async fn f16_a_store_that_is_closed_during_fills_answers_them_to_their_ends_and_has_no_part_of_them() {
    let place = Place::new();
    let store = place.builder().open().await.unwrap();
    let stage = Stage::with(CacheLayer::builder(BoxStore::new(store.clone())));
    let clients: Vec<Client> = (0..8).map(|number| stage.get(&format!("/{number}"))).collect();
    settle().await;
    for number in 0..8 {
        stage.origin.call_for(&format!("/{number}")).step(head()).frame(&large()[..200_000]);
    }
    while staged(&place) < 8 {
        settle().await;
    }
    store.close().await;
    for number in 0..8 {
        stage.origin.call_for(&format!("/{number}")).frame(&large()[200_000..]).end();
    }
    for client in clients {
        super::is(client.seen().await, &large());
    }
    drop((stage, store));
    assert_eq!(is_right(&place, 8).await, 0);
}

#[test]
fn f16_a_runtime_that_ends_during_fills_leaves_what_was_whole_and_no_part_of_anything() {
    for round in 0..6 {
        let place = Place::new();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = place.builder().open().await.unwrap();
            let stage = Stage::with(CacheLayer::builder(BoxStore::new(store.clone())));
            for number in 0..8 {
                drop(stage.get(&format!("/{number}")).reading());
                drop(stage.get(&format!("/small/{number}")).reading());
            }
            while stage.origin.calls() < 16 {
                tokio::task::yield_now().await;
            }
            for number in 0..8 {
                let small = stage.origin.call_for(&format!("/small/{number}"));
                small.steps(&[
                    Step::head(200, &[("cache-control", "max-age=60")]),
                    Step::frame("small"),
                    Step::End,
                ]);
                let call = stage.origin.call_for(&format!("/{number}"));
                call.step(head()).frame(&large()[..200_000]);
                // Some of them come to their ends just now.
                if number % 2 == 0 {
                    call.frame(&large()[200_000..]).end();
                }
            }
            while store.statistics().entries < round {
                tokio::task::yield_now().await;
            }
        });
        if round % 2 == 0 {
            runtime.shutdown_background();
        } else {
            runtime.shutdown_timeout(Duration::from_secs(60));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // The folder is let go when the last write has ended.
            while place.builder().open().await.is_err_and(|error| error.is_in_use()) {
                tokio::task::yield_now().await;
            }
            loop {
                match place.builder().open().await {
                    Ok(store) => break store.close().await,
                    Err(error) => assert!(error.is_in_use(), "{error}"),
                }
            }
            let hits = is_right(&place, 8).await;
            assert!((usize::try_from(round).unwrap()..=12).contains(&hits), "{hits} hits in round {round}");
        });
    }
}
