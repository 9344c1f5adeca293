//! Blobs, table and signer: the conformance suites, and what they do not ask for.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType::S as Text,
};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use bytes::Bytes;
use moola_aws::{DynamoTable, KmsSigner, S3Blobs, TrustedKeys};
use moola_core::ErrorKind;
use moola_core::ports::{Blobs, PresignMethod, PutMode, Signer};
use moola_core::testkit;
use moola_tests::emulator::{Emulator, unique_name};

/// Makes a bucket.
pub(super) async fn bucket(config: &SdkConfig) -> String {
    let name = unique_name("bucket");
    let mut create = aws_sdk_s3::Client::from_conf(Builder::from(config).force_path_style(true).build())
        .create_bucket()
        .bucket(&name);
    // S3's oldest region is never named.
    if let Some(region) = config.region().filter(|region| region.as_ref() != "us-east-1") {
        let location = BucketLocationConstraint::from(region.as_ref());
        let place = CreateBucketConfiguration::builder().location_constraint(location).build();
        create = create.create_bucket_configuration(place);
    }
    create.send().await.unwrap();
    name
}

/// Makes a table.
pub(super) async fn table(config: &SdkConfig) -> String {
    let name = unique_name("table");
    let mut create = aws_sdk_dynamodb::Client::new(config).create_table().table_name(&name);
    for (key, key_type) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(Text).build().unwrap();
        let schema = KeySchemaElement::builder().attribute_name(key).key_type(key_type).build().unwrap();
        create = create.attribute_definitions(attribute).key_schema(schema);
    }
    create.billing_mode(BillingMode::PayPerRequest).send().await.unwrap();
    name
}

async fn key(config: &SdkConfig, spec: KeySpec) -> String {
    let create = aws_sdk_kms::Client::new(config).create_key().key_spec(spec).key_usage(KeyUsageType::SignVerify);
    create.send().await.unwrap().key_metadata.unwrap().key_id
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_in_s3_keep_the_promises() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    testkit::blobs(async || Arc::new(S3Blobs::new(&config, bucket(&config).await))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_dynamodb_keeps_the_promises() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    testkit::table(async || Arc::new(DynamoTable::new(&config, table(&config).await))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_in_kms_keeps_the_promises() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let make =
        async || Arc::new(KmsSigner::new(&config, key(&config, KeySpec::EccNistP256).await, TrustedKeys::default()));
    testkit::signer(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kms_signed_is_verified_without_kms() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let id = key(&config, KeySpec::EccNistP256).await;
    let alias = format!("alias/{}", unique_name("signing"));
    aws_sdk_kms::Client::new(&config).create_alias().alias_name(&alias).target_key_id(&id).send().await.unwrap();
    let signer = KmsSigner::new(&config, alias, TrustedKeys::default());
    let trusted = TrustedKeys::from_pem(&signer.public_key().await.unwrap()).unwrap();
    // KMS makes signatures with high and low s by chance; all must count.
    for number in 0..16_u8 {
        let signature = signer.sign(&[number]).await.unwrap();
        trusted.verify(&[number], &signature).await.unwrap();
        assert_eq!(trusted.verify(b"other", &signature).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }

    let missing = KmsSigner::new(&config, "alias/missing", TrustedKeys::default());
    assert_eq!(missing.sign(b"message").await.unwrap_err().kind(), ErrorKind::NotFound);
    let wrong = KmsSigner::new(&config, key(&config, KeySpec::Rsa2048).await, TrustedKeys::default());
    assert_eq!(wrong.sign(b"message").await.unwrap_err().kind(), ErrorKind::Invalid);
    aws_sdk_kms::Client::new(&config).disable_key().key_id(&id).send().await.unwrap();
    assert_eq!(signer.sign(b"message").await.unwrap_err().kind(), ErrorKind::Refused);
}

/// Bytes that differ from part to part.
pub(super) fn large(num_bytes: usize, salt: u8) -> Bytes {
    (0..num_bytes).map(|index| (index % 251) as u8 ^ (index >> 20) as u8 ^ salt).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_blobs_are_written_in_parts_and_appear_as_a_whole() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let blobs = Arc::new(S3Blobs::new(&config, bucket(&config).await));
    let data = large(40 << 20, 0);
    let writing = tokio::spawn({
        let (blobs, data) = (blobs.clone(), data.clone());
        async move { blobs.put("large", data, PutMode::Create).await }
    });
    // Until it is there in full it is not there at all.
    let mut num_missing = 0;
    loop {
        match blobs.head("large").await {
            Ok(meta) => {
                assert_eq!(meta.size_bytes, data.len() as u64);
                break;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
        }
        let listed = blobs.list("", None, 10).await.unwrap().blobs;
        assert!(listed.iter().all(|blob| blob.size_bytes == data.len() as u64), "{listed:?}");
        num_missing += 1;
    }
    writing.await.unwrap().unwrap();
    assert!(num_missing > 0, "the upload was over before it was looked at");
    assert!(blobs.get("large").await.unwrap() == data, "a large blob comes back otherwise");
    let range = (16 << 20) - 3..(16 << 20) + 5;
    assert_eq!(
        blobs.get_range("large", range.clone()).await.unwrap(),
        data.slice(range.start as usize..range.end as usize)
    );

    let other = large(17 << 20, 1);
    let refused = blobs.put("large", other.clone(), PutMode::Create).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert!(blobs.get("large").await.unwrap() == data, "a refused write left something");
    blobs.put("large", other.clone(), PutMode::Overwrite).await.unwrap();
    assert!(blobs.get("large").await.unwrap() == other, "another blob comes back otherwise");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_large_blobs_one_wins_too() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let blobs = Arc::new(S3Blobs::new(&config, bucket(&config).await));
    let writers = (0..4_u8).map(|writer| {
        let blobs = blobs.clone();
        tokio::spawn(async move { blobs.put("race", large(17 << 20, writer), PutMode::Create).await })
    });
    let mut winners = Vec::new();
    for (writer, task) in (0..4_u8).zip(writers.collect::<Vec<_>>()) {
        match task.await.unwrap() {
            Ok(()) => winners.push(writer),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}", error.chain()),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert!(blobs.get("race").await.unwrap() == large(17 << 20, winners[0]), "the blob is not the winner's");
}

#[tokio::test(flavor = "multi_thread")]
async fn presigned_urls_read_and_write() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let blobs = Arc::new(S3Blobs::new(&config, bucket(&config).await));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let minute = Duration::from_secs(60);
    let url = blobs.presign("dir/a=1+2@3", PresignMethod::Put, minute).await.unwrap();
    let answer = http.put(url).body("written").send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    assert_eq!(&blobs.get("dir/a=1+2@3").await.unwrap()[..], b"written");
    let url = blobs.presign("dir/a=1+2@3", PresignMethod::Get, minute).await.unwrap();
    assert_eq!(http.get(url).send().await.unwrap().text().await.unwrap(), "written");
    let refused = blobs.put("dir/a=1+2@3", Bytes::new(), PutMode::Create).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
}
