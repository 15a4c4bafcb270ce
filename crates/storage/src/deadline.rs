//! The time that a read may take, whatever it waits for.

use std::future::Future;
use std::time::Duration;

use crate::error::{StorageError, StorageErrorKind, shown};

/// The result of `work`, unless it takes longer than `time`.
pub(crate) async fn within<T>(
    time: Duration,
    name: &str,
    work: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    match tokio::time::timeout(time, work).await {
        Ok(result) => result,
        Err(_) => Err(too_long(time, name)),
    }
}

fn too_long(time: Duration, name: &str) -> StorageError {
    let message = format!(
        "{}: the store did not deliver within {} s",
        shown(name),
        time.as_secs_f64()
    );
    StorageError::new(StorageErrorKind::Timeout, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_given_up() {
        let second = Duration::from_secs(1);
        assert_eq!(within(second, "a", async { Ok(1) }).await, Ok(1));
        let never = std::future::pending::<Result<(), StorageError>>();
        let error = within(second * 5 / 2, "a", never).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Timeout);
        assert_eq!(
            error.to_string(),
            "a: the store did not deliver within 2.5 s"
        );
    }
}
