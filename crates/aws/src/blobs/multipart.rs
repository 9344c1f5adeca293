//! Large objects, written in parts: none of them is visible before the last step, which makes the whole object so.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use moola_core::Error;
use moola_core::ports::PutMode;

use super::{NotPut, S3Blobs, WRITE_TOKEN, if_none_match};

/// S3 takes no smaller part but the last.
const PART_BYTES: usize = 8 << 20;
const MAX_PARTS: usize = 10_000;
/// Parts on their way at a time.
const CONCURRENCY: usize = 4;

impl S3Blobs {
    pub(super) async fn put_parts(&self, key: &str, data: &Bytes, mode: PutMode, token: &str) -> Result<(), NotPut> {
        let what = self.what("put", key);
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .metadata(WRITE_TOKEN, token)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            // Readers can verify a checksum of the object, but none that is made of those of its parts.
            .checksum_type(ChecksumType::FullObject)
            .send()
            .await
            .map_err(|error| NotPut::new(&what, error))?;
        let upload = created.upload_id().unwrap_or_default();
        if upload.is_empty() {
            return Err(NotPut::Failed(Error::internal(format!("{what} got no upload"))));
        }
        let result = self.put_upload(key, data, mode, upload).await;
        if result.is_err() {
            // What is left of it is removed by the bucket's life cycle where this fails too.
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(upload);
            if let Err(error) = abort.send().await {
                tracing::debug!(key, upload, error = &error as &dyn std::error::Error, "the upload is not aborted");
            }
        }
        result
    }

    async fn put_upload(&self, key: &str, data: &Bytes, mode: PutMode, upload: &str) -> Result<(), NotPut> {
        let part_bytes = PART_BYTES.max(data.len().div_ceil(MAX_PARTS));
        let parts = (0..data.len()).step_by(part_bytes).zip(1..).map(|(start, number)| {
            self.put_part(key, upload, number, data.slice(start..data.len().min(start + part_bytes)))
        });
        let parts: Vec<CompletedPart> = stream::iter(parts).buffered(CONCURRENCY).try_collect().await?;
        let completed = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .checksum_type(ChecksumType::FullObject)
            .set_if_none_match(if_none_match(mode))
            .multipart_upload(completed);
        complete.send().await.map(drop).map_err(|error| NotPut::new(&self.what("put", key), error))
    }

    async fn put_part(&self, key: &str, upload: &str, number: i32, data: Bytes) -> Result<CompletedPart, NotPut> {
        let put = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .part_number(number)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .body(ByteStream::from(data));
        let part = put.send().await.map_err(|error| NotPut::new(&self.what("put", key), error))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(part.e_tag().map(str::to_owned))
            .set_checksum_crc32(part.checksum_crc32().map(str::to_owned))
            .build())
    }
}
