//! A bucket of a real S3 server, with a client that fills it.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::aws::AmazonS3;
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;

use tokio::io::AsyncWriteExt as _;

use crate::garage::Garage;
use crate::programs::Server;

/// An empty bucket in a Garage of its own; both are gone when it is dropped.
pub struct Bucket {
    garage: Garage,
    writer: Arc<AmazonS3>,
}

impl Bucket {
    /// Starts the S3 server.
    pub fn start() -> Result<Self> {
        let garage = Garage::start()?;
        let writer = garage.writer(Garage::BUCKET)?;
        Ok(Self {
            garage,
            writer: Arc::new(writer),
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        self.garage.endpoint()
    }

    /// Puts an object.
    pub async fn put(&self, key: &str, content: impl Into<Bytes>) -> Result<()> {
        let content: Bytes = content.into();
        self.writer.put(&Key::parse(key)?, content.into()).await?;
        Ok(())
    }

    /// Puts a file, piece by piece.
    pub async fn put_file(&self, key: &str, path: &Path) -> Result<()> {
        let mut file = tokio::fs::File::open(path).await?;
        let writer = Arc::clone(&self.writer);
        let mut object = BufWriter::new(writer, Key::parse(key)?);
        tokio::io::copy(&mut file, &mut object).await?;
        Ok(object.shutdown().await?)
    }

    /// Some bytes of an object, as the server gives them to a client that does nothing else.
    pub async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        Ok(self.writer.get_range(&Key::parse(key)?, range).await?)
    }

    /// Makes another object of the same content.
    pub async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (Key::parse(from)?, Key::parse(to)?);
        Ok(self.writer.copy(&from, &to).await?)
    }

    /// Removes an object.
    pub async fn delete(&self, key: &str) -> Result<()> {
        Ok(self.writer.delete(&Key::parse(key)?).await?)
    }

    /// What a `bucket-streamer` is to be told to serve the bucket, by way of this endpoint.
    pub fn tell(&self, command: &mut Command, endpoint: &str) {
        command
            .env("STORAGE_BACKEND", "s3")
            .env("S3_BUCKET", Garage::BUCKET)
            .env("S3_REGION", Garage::REGION)
            .env("S3_ENDPOINT", endpoint)
            .env("S3_ACCESS_KEY", Garage::ACCESS_KEY)
            .env("S3_SECRET_KEY", Garage::SECRET_KEY);
    }

    /// Starts a `bucket-streamer` of the bucket with these further arguments.
    pub fn serve(&self, args: &[&str]) -> Result<Server> {
        self.serve_by(self.endpoint(), args)
    }

    /// The same by way of another endpoint, such as a proxy's.
    pub fn serve_by(&self, endpoint: &str, args: &[&str]) -> Result<Server> {
        Server::start_with(args, |command| self.tell(command, endpoint))
    }
}
