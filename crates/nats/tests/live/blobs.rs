//! Blobs come back as they were or not at all.

use crate::support::{server, soon};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use custody_contracts::ids::Subject;
use custody_nats::JetBlobs;
use custody_ports::blobs::{BLOB_BYTES_MAX, BlobError, Blobs, SEAL_BYTES_MAX};
use custody_streams::accounts::ServiceUser;
use futures::future::join_all;

fn jane() -> Subject {
    Subject::parse("u_jane").unwrap()
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_every_size_come_back() {
    let server = server().await;
    let put = JetBlobs::new(&server.connect(ServiceUser::Gateway).await);
    let get = JetBlobs::new(&server.connect(ServiceUser::Runtime).await);
    for len in [0, 1, 131_071, 131_072, 131_073, 3_000_000] {
        let name = put.put(&jane(), bytes(len, 1)).await.unwrap();
        assert!(name.starts_with("sha256:") && name.len() == 71, "{name}");
        assert_eq!(soon("the blob", get.get(&name)).await.unwrap(), bytes(len, 1), "{len} bytes");
        // The operator's command line reads too, and putting again is harmless.
        assert_eq!(put.put(&jane(), bytes(len, 1)).await.unwrap(), name);
    }
    // Nothing was stored a second time.
    let admin = server.connect(ServiceUser::Admin).await;
    let state = custody_nats::reconcile::usage(&admin, "OBJ_blobs").await.unwrap();
    assert_eq!(
        state["messages"],
        4 + (2 + 1) + (23 + 1),
        "up to a chunk one message, and beyond it chunks and a record"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_blob_put_by_many_at_once_is_one_blob() {
    let server = server().await;
    let blobs = JetBlobs::new(&server.connect(ServiceUser::Gateway).await);
    let jane = jane();
    let names = soon("putting", join_all((0..8).map(|_| blobs.put(&jane, bytes(400_000, 9))))).await;
    let name = names[0].clone().unwrap();
    assert!(names.iter().all(|n| n.as_ref() == Ok(&name)), "{names:?}");
    assert_eq!(blobs.get(&name).await.unwrap(), bytes(400_000, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_read_the_same_object() {
    use futures::StreamExt;
    let server = server().await;
    let blobs = JetBlobs::new(&server.connect(ServiceUser::Gateway).await);
    let name = blobs.put(&jane(), bytes(300_000, 3)).await.unwrap();
    let admin = server.connect(ServiceUser::Admin).await;
    let store = async_nats::jetstream::new(admin.client().clone()).get_object_store("blobs").await.unwrap();
    let mut object = store.get(name.trim_start_matches("sha256:")).await.unwrap();
    assert_eq!(object.info().size, 300_000);
    // async-nats' object is an AsyncRead; its own digest check runs as it is read.
    let mut read = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut object, &mut read).await.unwrap();
    assert_eq!(read, bytes(300_000, 3));
    let listed: Vec<_> = store.list().await.unwrap().collect().await;
    assert_eq!(listed.len(), 1);
}

/// What an installation of before kept: objects of any size, with a record each.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_blob_of_before_is_read() {
    let server = server().await;
    let admin = server.connect(ServiceUser::Admin).await;
    let context = async_nats::jetstream::new(admin.client().clone());
    let hex = "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81"; // of the bytes 1, 2, 3
    let encoded = |bytes: &[u8]| URL_SAFE.encode(bytes);
    let digest = (0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect::<Vec<_>>();
    let record = serde_json::json!({
        "name": hex, "bucket": "blobs", "nuid": "abcdefghijklmnopqrstuv", "size": 3, "chunks": 1,
        "digest": format!("SHA-256={}", encoded(&digest)),
    });
    let chunk = context.publish("$O.blobs.C.abcdefghijklmnopqrstuv", vec![1, 2, 3].into()).await.unwrap();
    chunk.await.unwrap();
    let place = format!("$O.blobs.M.{}", encoded(hex.as_bytes()));
    context.publish(place, record.to_string().into()).await.unwrap().await.unwrap();
    let blobs = JetBlobs::new(&server.connect(ServiceUser::Gateway).await);
    assert_eq!(blobs.get(&format!("sha256:{hex}")).await.unwrap(), vec![1, 2, 3]);
    assert_eq!(blobs.put(&jane(), vec![1, 2, 3]).await.unwrap(), format!("sha256:{hex}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_itself_is_said_so() {
    let server = server().await;
    let admin = server.connect(ServiceUser::Admin).await;
    let blobs = JetBlobs::new(&admin);
    let nowhere = format!("sha256:{}", "0".repeat(64));
    assert_eq!(blobs.get(&nowhere).await, Err(BlobError::Missing(nowhere.clone())));
    assert!(matches!(blobs.get("../x").await, Err(BlobError::Missing(_))));
    let size = usize::try_from(BLOB_BYTES_MAX + SEAL_BYTES_MAX).unwrap() + 1;
    assert!(matches!(blobs.put(&jane(), vec![0; size]).await, Err(BlobError::TooLarge { .. })));

    // Somebody with the administrator's rights puts other bytes under a digest.
    let context = async_nats::jetstream::new(admin.client().clone());
    let small = blobs.put(&jane(), bytes(100, 1)).await.unwrap();
    assert_eq!(blobs.get(&small).await.unwrap(), bytes(100, 1));
    let place = format!("$O.blobs.C.{}", small.trim_start_matches("sha256:"));
    context.publish(place, "other bytes".into()).await.unwrap().await.unwrap();
    assert_eq!(blobs.get(&small).await, Err(BlobError::Corrupt(small.clone())));
    let name = blobs.put(&jane(), bytes(200_000, 1)).await.unwrap();
    let other = blobs.put(&jane(), bytes(200_000, 2)).await.unwrap();
    let subject = |name: &str| format!("$O.blobs.M.{}", URL_SAFE.encode(name.trim_start_matches("sha256:")));
    let stream = async_nats::jetstream::new(admin.client().clone()).get_stream("OBJ_blobs").await.unwrap();
    let record = stream.get_last_raw_message_by_subject(&subject(&other)).await.unwrap();
    context.publish(subject(&name), record.payload).await.unwrap().await.unwrap();
    assert_eq!(blobs.get(&name).await, Err(BlobError::Corrupt(name.clone())));

    // A record without its chunks is found broken, not waited for.
    let info: serde_json::Value =
        serde_json::from_slice(&stream.get_last_raw_message_by_subject(&subject(&other)).await.unwrap().payload)
            .unwrap();
    stream.purge().filter(format!("$O.blobs.C.{}", info["nuid"].as_str().unwrap())).await.unwrap();
    assert_eq!(soon("the answer", blobs.get(&other)).await, Err(BlobError::Corrupt(other.clone())));
}
