//! The init step of docker-compose.yml, run as it is: against the S3 server and the server that
//! compose starts, and with the programs that its image holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::env;
use std::process::Command;

use testkit::bucket::Bucket;
use testkit::directories::{programs, workspace};
use testkit::garage::Garage;

#[test]
fn a_sample_video_is_put_into_the_bucket_and_served() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("note: curl is not installed; the image has it, this test needs it");
        return;
    }
    let bucket = Bucket::start().unwrap();
    let server = bucket.serve(&[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut path = vec![workspace().join("scripts"), programs()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap()));
    let output = Command::new(workspace().join("docker/put-sample.sh"))
        .env("PATH", env::join_paths(path).unwrap())
        .env("TMPDIR", folder.path())
        .env("S3_BUCKET", Garage::BUCKET)
        .env("S3_REGION", Garage::REGION)
        .env("S3_ENDPOINT", bucket.endpoint())
        .env("S3_ACCESS_KEY", Garage::ACCESS_KEY)
        .env("S3_SECRET_KEY", Garage::SECRET_KEY)
        .env("SERVER", server.websocket())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    println!("{text}");
    assert!(text.contains("in the bucket: demo.h265"), "{text}");
}
