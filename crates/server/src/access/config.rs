//! The options of access, checked against each other.

use std::path::{Path, PathBuf};

use super::needs;

/// How access is set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct AccessConfig {
    /// Not to start where everybody may see everything.
    pub(crate) required: bool,
    /// Static tokens.
    pub(crate) token_file: Option<PathBuf>,
    /// The key of JWTs.
    pub(crate) jwt_key_file: Option<PathBuf>,
    /// Several of them, as a JWKS.
    pub(crate) jwt_jwks_file: Option<PathBuf>,
    /// What JWTs must say.
    pub(crate) jwt: JwtConfig,
    /// Keys of signed URLs.
    pub(crate) url_key_file: Option<PathBuf>,
    /// Origins whose pages may open sessions; `*`: all may.
    pub(crate) origins: Vec<String>,
}

/// What JWTs must say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct JwtConfig {
    /// One of these; empty: a token may have no audience.
    pub(crate) audience: Vec<String>,
    /// This, if any.
    pub(crate) issuer: Option<String>,
    /// The claim that has the prefixes, which a token must have then.
    pub(crate) prefix_claim: Option<String>,
}

impl AccessConfig {
    /// # Errors
    /// An option that means nothing without another.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let either = "--jwt-key-file or --jwt-jwks-file";
        if self.jwt_file().is_none() {
            needs(!self.jwt.audience.is_empty(), "jwt-audience", either)?;
            needs(self.jwt.issuer.is_some(), "jwt-issuer", either)?;
            needs(self.jwt.prefix_claim.is_some(), "jwt-prefix-claim", either)?;
        }
        anyhow::ensure!(
            self.jwt_key_file.is_none() || self.jwt_jwks_file.is_none(),
            "--jwt-key-file and --jwt-jwks-file are two ways to say the same: set one"
        );
        Ok(())
    }

    /// The flag and the file of the keys of JWTs, and whether it is a set.
    pub(super) fn jwt_file(&self) -> Option<(&'static str, &Path, bool)> {
        let key = self.jwt_key_file.as_deref();
        let set = self.jwt_jwks_file.as_deref();
        let key = key.map(|path| ("--jwt-key-file", path, false));
        key.or(set.map(|path| ("--jwt-jwks-file", path, true)))
    }
}
