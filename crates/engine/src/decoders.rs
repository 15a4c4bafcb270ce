//! Where pictures are decoded: in this process or in others.

use codec::Decoders;

use crate::config::{EngineConfig, Isolation};
use crate::error::EngineError;

/// Decoders as they are configured.
pub(crate) fn of(config: &EngineConfig) -> Result<Decoders, EngineError> {
    let here = Decoders::Here {
        max_pixels: config.max_pixels,
    };
    match &config.isolation {
        Isolation::Thread => Ok(here),
        Isolation::Process(worker) => match apart(config, worker) {
            Ok(decoders) => Ok(decoders),
            Err(why) if worker.required => Err(EngineError::Isolation(why)),
            Err(why) => {
                tracing::warn!(%why, "videos are decoded in the server's own process");
                Ok(here)
            }
        },
    }
}

#[cfg(target_os = "linux")]
fn apart(config: &EngineConfig, worker: &crate::DecodeWorker) -> Result<Decoders, String> {
    use std::time::Duration;

    /// One access unit takes no longer, be it as large as can be and the machine slow.
    const LONGEST: Duration = Duration::from_secs(10);
    let launcher = codec::Launcher::new(codec::LauncherConfig {
        program: worker.program.clone(),
        arguments: worker.arguments.clone(),
        environment: worker.environment.clone(),
        timeout: config.decode_time.min(LONGEST),
        max_pixels: config.max_pixels,
        idle: config.workers,
    });
    let launcher = launcher.map_err(|e| e.to_string())?;
    let codec::Confinement { calls, files } = launcher.confinement();
    tracing::info!(
        seccomp = calls,
        landlock = files,
        "videos are decoded in processes of their own"
    );
    Ok(Decoders::Apart(launcher))
}

#[cfg(not(target_os = "linux"))]
fn apart(_: &EngineConfig, _: &crate::DecodeWorker) -> Result<Decoders, String> {
    Err("that needs Linux".into())
}

/// What a program calls that was started as [`crate::DecodeWorker`] says: it decodes for the process
/// that started it, until that is gone.
pub fn decode_worker() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    return codec::decode_worker();
    #[cfg(not(target_os = "linux"))]
    std::process::ExitCode::FAILURE
}
