//! Settings, and constants of the format, that are others than when the folder was written.

use larder::store::PurgeTarget;
use redb::{Database, ReadableTable, TableDefinition};

use super::{HIT, Node, Place, is, large};
use crate::support::Reply;

#[tokio::test]
async fn a_larger_capacity_keeps_all_that_was_there_and_takes_more() {
    let place = Place::new();
    let node = Node::with(place.builder().capacity(8 << 20)).await;
    for number in 0..10 {
        node.fill(&format!("/{number}"), &large()).await;
    }
    let held = node.held();
    node.store.close().await;
    let node = Node::with(place.builder().capacity(64 << 20)).await;
    assert_eq!(node.held(), held);
    for number in 10..100 {
        node.fill(&format!("/{number}"), &large()).await;
    }
    for number in 0..100 {
        node.hits(&format!("/{number}"), &large()).await;
    }
    assert!(node.held().0 > 8 << 20);
}

#[tokio::test]
async fn content_above_a_smaller_bound_is_served_and_no_more_of_it_is_stored() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/large", &large()).await;
    node.store.close().await;
    let small = || Node::with(place.builder().max_object(100_000));
    let node = small().await;
    node.hits("/large", &large()).await;
    node.fetch("/other", &large()).await.told("larder; fwd=uri-miss; detail=\"too-large\"");
    node.fill("/small", "small").await;
    node.store.close().await;
    // And with the bound as it was, it is again.
    let node = Node::open(&place).await;
    node.hits("/large", &large()).await;
    node.fill("/other", &large()).await;
}

#[tokio::test]
async fn responses_above_a_smaller_count_are_served_until_another_one_is_stored() {
    let place = Place::new();
    let node = Node::open(&place).await;
    let fields = ["a", "b", "c", "d"].map(|kind| [("x-kind", kind)]);
    let reply = |kind: &str| Reply::cc(kind, "max-age=60").field("vary", "x-kind");
    for [field] in &fields[..3] {
        node.bench.origin.then(reply(field.1));
        is(node.bench.get_with("/", &[*field]).await, field.1);
    }
    node.store.close().await;
    let node = Node::with(place.builder().max_variants(2)).await;
    for [field] in &fields[..3] {
        is(node.bench.get_with("/", &[*field]).await, field.1).told(HIT);
    }
    node.bench.origin.then(reply("d"));
    node.bench.get_with("/", &fields[3]).await;
    node.bench.origin.then(reply("of the origin"));
    for (field, expected) in [(fields[3], "d"), (fields[2], "c"), (fields[0], "of the origin")] {
        is(node.bench.get_with("/", &field).await, expected);
    }
}

#[tokio::test]
async fn a_store_that_syncs_and_one_that_does_not_have_the_same_folder() {
    let place = Place::new();
    let mut syncs = true;
    for round in 0..4 {
        let node = Node::with(place.builder().sync(syncs)).await;
        if round > 0 {
            let last = round - 1;
            node.hits(&format!("/{last}"), "small").await;
            node.hits(&format!("/large/{last}"), &large()).await;
            node.fetch(&format!("/purged/{last}"), "new").await.told(super::FILLED);
        }
        node.fill(&format!("/{round}"), "small").await;
        node.fill(&format!("/large/{round}"), &large()).await;
        node.fill(&format!("/purged/{round}"), "old").await;
        node.purge(PurgeTarget::uri(format!("http://example.com/purged/{round}"))).await;
        node.store.close().await;
        syncs = !syncs;
    }
}

const PROPERTIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("properties");

/// Changes what a folder says of its format, which a version with other constants does.
fn change_format(place: &Place, change: fn(&mut Vec<u8>)) {
    let database = Database::open(place.path().join("purges.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut properties = transaction.open_table(PROPERTIES).unwrap();
        let mut format = properties.get("format").unwrap().unwrap().value().to_vec();
        change(&mut format);
        properties.insert("format", &format[..]).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_folder_of_another_format_or_with_blocks_of_another_size_is_started_empty() {
    // Little-endian: the format of the folder, that of records, and the bytes of a block.
    let changes: [(&str, fn(&mut Vec<u8>)); 5] = [
        ("the folder's", |format| format[0] += 1),
        ("of records", |format| format[2] += 1),
        ("blocks of 128 KiB", |format| format[6] = 2),
        ("an older one, without the size of blocks", |format| format.truncate(4)),
        ("a later one, with more", |format| format.push(0)),
    ];
    for (what, change) in changes {
        let place = Place::new();
        let node = Node::open(&place).await;
        node.fill("/small", "small").await;
        node.fill("/large", &large()).await;
        let node = node.again(&place).await;
        node.hits("/small", "small").await;
        node.store.close().await;
        change_format(&place, change);
        let node = Node::open(&place).await;
        assert_eq!((node.held(), place.files().len()), ((0, 0), 0), "{what}");
        node.fill("/small", "new").await;
        // From now on, it is its own.
        node.again(&place).await.hits("/small", "new").await;
    }
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/", "kept").await;
    node.store.close().await;
    change_format(&place, |_| {});
    Node::open(&place).await.hits("/", "kept").await;
}
