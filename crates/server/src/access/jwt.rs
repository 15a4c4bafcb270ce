//! JSON Web Tokens (RFC 7519) that others made.
//!
//! A key has one algorithm, by its kind: HS256, RS256 or ES256. What a token says of its algorithm only
//! chooses among the keys of that algorithm, so no key is ever taken for another kind; `none` is no
//! algorithm here. Keys that a token brings along, or where it says that one is to be had, are nothing.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::config::JwtConfig;

/// Clocks differ: a token is good for so much longer, and so much earlier, than it says.
const LEEWAY: Duration = Duration::from_secs(30);
/// A secret for HS256 is as long as what SHA-256 gives (RFC 7518, 3.2).
const SHORTEST_SECRET: usize = 32;
/// The bytes of the modulus of an RSA key (RFC 7518, 3.3: 2048 bits).
const SHORTEST_MODULUS: usize = 256;

/// Keys by which tokens are checked, and what these must say.
pub(super) struct Keys {
    keys: Vec<Key>,
    wanted: JwtConfig,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

// By hand: keys may be secrets.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.keys.len()).finish()
    }
}

/// What a good token says.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Claims {
    pub(super) subject: String,
    pub(super) ends: SystemTime,
    /// What may be seen; `None`: everything.
    pub(super) prefixes: Option<Vec<String>>,
}

impl Keys {
    /// The key in a file: public, in PEM, or a secret as it is.
    pub(super) fn of_file(bytes: &[u8], wanted: &JwtConfig) -> Result<Self, String> {
        let (algorithm, key) = key_of_file(bytes)?;
        let id = None;
        Ok(Self {
            keys: vec![Key { id, algorithm, key }],
            wanted: wanted.clone(),
        })
    }

    /// The keys of a JWKS (RFC 7517) that are for signatures of the three kinds.
    pub(super) fn of_set(bytes: &[u8], wanted: &JwtConfig) -> Result<Self, String> {
        // The library's words may show what it has read.
        let set: JwkSet = serde_json::from_slice(bytes)
            .map_err(|e| format!("line {}: it is no JWKS", e.line()))?;
        let (mut keys, mut ids) = (Vec::new(), HashSet::new());
        for (jwk, number) in set.keys.iter().zip(1..) {
            let Some(algorithm) = algorithm_of(jwk) else {
                continue;
            };
            let id = jwk.common.key_id.clone();
            let named = id.as_deref().unwrap_or("without kid");
            if id.as_ref().is_some_and(|id| !ids.insert(id.clone())) {
                return Err(format!("two keys have the kid {named}"));
            }
            let key = DecodingKey::from_jwk(jwk).ok();
            let key = key.filter(|key| is_long_enough(jwk, key)).ok_or_else(|| {
                format!("key {number} ({named}) is malformed, or shorter than {algorithm:?} wants")
            })?;
            keys.push(Key { id, algorithm, key });
        }
        if keys.is_empty() {
            return Err("there is no key for HS256, RS256 or ES256 in it".into());
        }
        Ok(Self {
            keys,
            wanted: wanted.clone(),
        })
    }

    /// What a token says, if it is good.
    ///
    /// # Errors
    /// Why it is not, without any of it.
    pub(super) fn check(&self, token: &str) -> Result<Claims, &'static str> {
        let header = decode_header(token).map_err(|e| why(e.kind()))?;
        let mut refusal = "no key has its algorithm and its kid";
        for Key { id, algorithm, key } in &self.keys {
            let other = matches!((id, &header.kid), (Some(own), Some(named)) if own != named);
            if *algorithm != header.alg || other {
                continue;
            }
            match decode::<Map<String, Value>>(token, key, &self.validation(*algorithm)) {
                Ok(token) => return self.claims(&token.claims),
                Err(error) => refusal = why(error.kind()),
            }
        }
        Err(refusal)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        let JwtConfig {
            audience, issuer, ..
        } = &self.wanted;
        let mut required = vec!["exp"];
        if !audience.is_empty() {
            validation.set_audience(audience);
            required.push("aud");
        }
        if let Some(issuer) = issuer {
            validation.set_issuer(std::slice::from_ref(issuer));
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn claims(&self, claims: &Map<String, Value>) -> Result<Claims, &'static str> {
        let seconds = claims.get("exp").and_then(Value::as_f64);
        let ends = Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).ok();
        let ends = ends.and_then(|end| UNIX_EPOCH.checked_add(end)?.checked_add(LEEWAY));
        let subject = claims.get("sub").and_then(Value::as_str);
        let prefixes = match &self.wanted.prefix_claim {
            None => None,
            Some(name) => Some(prefixes(
                claims.get(name).ok_or("it has no claim of prefixes")?,
            )?),
        };
        Ok(Claims {
            subject: subject.unwrap_or_default().to_owned(),
            ends: ends.ok_or("its exp is no time")?,
            prefixes,
        })
    }
}

/// An array of texts, or one text with spaces between prefixes.
fn prefixes(claim: &Value) -> Result<Vec<String>, &'static str> {
    const NONE: &str = "its claim of prefixes is neither an array of texts nor a text";
    match claim {
        Value::String(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
        Value::Array(all) => {
            let texts = all.iter().map(|one| one.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or(NONE)
        }
        _ => Err(NONE),
    }
}

fn why(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::ExpiredSignature => "its time is over (exp)",
        ErrorKind::ImmatureSignature => "its time has not come (nbf)",
        ErrorKind::InvalidAudience => "it is for another audience (aud)",
        ErrorKind::InvalidIssuer => "it is of another issuer (iss)",
        ErrorKind::InvalidSignature => "its signature is not that of the key",
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "exp" => "it has no exp",
            "aud" => "it has no aud",
            "iss" => "it has no iss",
            _ => "it lacks a claim",
        },
        _ => "it is no JWT that can be checked here",
    }
}

fn key_of_file(bytes: &[u8]) -> Result<(Algorithm, DecodingKey), String> {
    const PEM: &str = "-----BEGIN ";
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    if text.contains(PEM) {
        let tag = text
            .split_once(PEM)
            .and_then(|(_, rest)| rest.split_once("-----"));
        let tag = tag.map_or("", |(tag, _)| tag);
        if tag.contains("PRIVATE KEY") {
            return Err("it holds a private key: the server needs the public one only".into());
        }
        if !matches!(tag, "PUBLIC KEY" | "RSA PUBLIC KEY") {
            return Err("its PEM is no PUBLIC KEY".into());
        }
        let long = |key: &DecodingKey, least: usize| {
            key.try_get_as_bytes()
                .is_ok_and(|bytes| bytes.len() >= least)
        };
        if let Ok(key) = DecodingKey::from_ec_pem(text.as_bytes()) {
            // The point of a P-256 key, not compressed (SEC 1, 2.3.3).
            let p256 = key.try_get_as_bytes().is_ok_and(|point| point.len() == 65);
            let wrong = "its key is of another curve than P-256, which ES256 is of";
            return p256.then_some((Algorithm::ES256, key)).ok_or(wrong.into());
        }
        return match DecodingKey::from_rsa_pem(text.as_bytes()) {
            Ok(key) if long(&key, SHORTEST_MODULUS) => Ok((Algorithm::RS256, key)),
            Ok(_) => Err("its RSA key is shorter than 2048 bits".into()),
            Err(_) => Err("its PEM is no key of RSA or of the curve P-256".into()),
        };
    }
    // What is public must not be taken for a secret.
    if text.starts_with(['{', '[']) {
        return Err("it looks like a JWKS: that is for --jwt-jwks-file".into());
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") || bytes.starts_with(&[0x30, 0x82]) {
        return Err("it looks like a key in another form than PEM".into());
    }
    let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.len() < SHORTEST_SECRET {
        return Err(format!(
            "a secret must have at least {SHORTEST_SECRET} bytes"
        ));
    }
    let key = DecodingKey::from_secret(secret).map_err(|_| "it is empty".to_owned())?;
    Ok((Algorithm::HS256, key))
}

/// The algorithm that a key is for; `None` where it is for none of ours.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let common = &jwk.common;
    let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let operations = common.key_operations.as_ref();
    let checks = operations.is_none_or(|all| all.contains(&KeyOperations::Verify));
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        _ => return None,
    };
    let fits = common.key_algorithm.is_none_or(|a| a == named);
    (signs && checks && fits).then_some(algorithm)
}

fn is_long_enough(jwk: &Jwk, key: &DecodingKey) -> bool {
    use jsonwebtoken::DecodingKeyKind;
    match (&jwk.algorithm, key.kind()) {
        (AlgorithmParameters::RSA(_), DecodingKeyKind::RsaModulusExponent { n, .. }) => {
            n.len() >= SHORTEST_MODULUS
        }
        (AlgorithmParameters::EllipticCurve(_), DecodingKeyKind::SecretOrDer(point)) => {
            point.len() == 65
        }
        (_, DecodingKeyKind::SecretOrDer(secret)) => secret.len() >= SHORTEST_SECRET,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair as _,
    };
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

    fn now() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    /// A pair of keys, both in PEM.
    struct Pair {
        private: String,
        public: String,
    }

    fn pem(tag: &str, der: &[u8]) -> String {
        format!(
            "-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n",
            STANDARD.encode(der)
        )
    }

    fn rsa(size: KeySize) -> Pair {
        let pair = RsaPair::generate(size).unwrap();
        let private = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
        let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
        Pair {
            private: pem("PRIVATE KEY", private.as_ref()),
            public: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> Pair {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let private = pair.to_pkcs8v1().unwrap();
        let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
        Pair {
            private: pem("PRIVATE KEY", private.as_ref()),
            public: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn keys(file: &[u8]) -> Keys {
        Keys::of_file(file, &JwtConfig::default()).unwrap()
    }

    fn secret() -> EncodingKey {
        EncodingKey::from_secret(SECRET).unwrap()
    }

    fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
        encode(header, claims, key).unwrap()
    }

    fn good() -> Value {
        json!({"sub": "alice", "exp": now() + 600})
    }

    /// Of parts that nobody has checked.
    fn by_hand(header: &Value, claims: &Value, signature: &str) -> String {
        let coded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        format!("{}.{}.{signature}", coded(header), coded(claims))
    }

    #[test]
    fn each_kind_of_key_has_its_algorithm() {
        let (rsa, ec) = (rsa(KeySize::Rsa2048), ec(&ECDSA_P256_SHA256_FIXED_SIGNING));
        let (of_rsa, of_ec) = (rsa.private.as_bytes(), ec.private.as_bytes());
        let kinds = [
            (Algorithm::HS256, SECRET.to_vec(), secret()),
            (
                Algorithm::RS256,
                rsa.public.clone().into_bytes(),
                EncodingKey::from_rsa_pem(of_rsa).unwrap(),
            ),
            (
                Algorithm::ES256,
                ec.public.clone().into_bytes(),
                EncodingKey::from_ec_pem(of_ec).unwrap(),
            ),
        ];
        for (algorithm, file, key) in &kinds {
            let token = sign(&Header::new(*algorithm), &good(), key);
            for (other, file_of_other, _) in &kinds {
                let checked = keys(file_of_other).check(&token);
                assert_eq!(
                    checked.is_ok(),
                    algorithm == other,
                    "{algorithm:?} {other:?}"
                );
            }
            let claims = keys(file).check(&token).unwrap();
            assert_eq!((claims.subject.as_str(), claims.prefixes), ("alice", None));
            assert!(claims.ends > SystemTime::now());
        }
        // A longer algorithm of the same family is another one.
        let token = sign(&Header::new(Algorithm::HS512), &good(), &secret());
        assert!(keys(SECRET).check(&token).is_err());
        // The public key is no secret, however it is written.
        for public in [rsa.public.as_str(), rsa.public.trim(), ec.public.as_str()] {
            let key = EncodingKey::from_secret(public.as_bytes()).unwrap();
            let token = sign(&Header::new(Algorithm::HS256), &good(), &key);
            assert!(keys(rsa.public.as_bytes()).check(&token).is_err());
            assert!(keys(ec.public.as_bytes()).check(&token).is_err());
        }
    }

    #[test]
    fn a_token_without_a_signature_is_none() {
        let keys = keys(SECRET);
        for alg in ["none", "None", "NONE", "", "HS1", "RS256", "ES256", "EdDSA"] {
            for signature in ["", "AAAA"] {
                let header = json!({"alg": alg, "typ": "JWT"});
                let token = by_hand(&header, &good(), signature);
                assert!(keys.check(&token).is_err(), "{alg}");
            }
        }
        let no_algorithm = by_hand(&json!({"typ": "JWT"}), &good(), "");
        assert!(keys.check(&no_algorithm).is_err());
        let token = sign(&Header::default(), &good(), &secret());
        let (signed, _) = token.rsplit_once('.').unwrap();
        assert!(keys.check(signed).is_err());
        assert!(keys.check(&format!("{signed}.")).is_err());
    }

    #[test]
    fn nothing_of_a_token_may_be_another() {
        let keys = keys(SECRET);
        let token = sign(&Header::default(), &good(), &secret());
        assert!(keys.check(&token).is_ok());
        let parts: Vec<&str> = token.split('.').collect();
        let claims = json!({"sub": "root", "exp": now() + 6000});
        let other = URL_SAFE_NO_PAD.encode(claims.to_string());
        assert!(
            keys.check(&format!("{}.{other}.{}", parts[0], parts[2]))
                .is_err()
        );
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character of a part has bits that mean nothing; the library refuses those.
            assert!(keys.check(&changed).is_err(), "{at}");
        }
        for odd in [
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            &token[1..],
            &format!("{token}.x"),
        ] {
            assert!(keys.check(odd).is_err(), "{odd}");
        }
        // A key that the token brings along is not taken.
        let header = Header {
            jku: Some("https://evil.example/keys".into()),
            ..Header::default()
        };
        let foreign = EncodingKey::from_secret(&[7; 40]).unwrap();
        assert!(keys.check(&sign(&header, &good(), &foreign)).is_err());
        // What must be understood and is not.
        let header = Header {
            crit: Some(vec!["b64".into()]),
            ..Header::default()
        };
        assert!(keys.check(&sign(&header, &good(), &secret())).is_err());
    }

    #[test]
    fn claims_are_held_to() {
        let check = |wanted: JwtConfig, claims: Value| {
            let keys = Keys::of_file(SECRET, &wanted).unwrap();
            keys.check(&sign(&Header::default(), &claims, &secret()))
        };
        let any = JwtConfig::default;
        let audience = || JwtConfig {
            audience: vec!["video".into(), "film".into()],
            ..any()
        };
        let issuer = || JwtConfig {
            issuer: Some("us".into()),
            ..any()
        };
        let soon = now() + 600;
        for (wanted, claims) in [
            (any(), json!({"exp": soon})),
            (any(), json!({"exp": soon as f64 + 0.5, "nbf": now() - 5})),
            // Within the leeway.
            (any(), json!({"exp": now() - 5, "nbf": now() + 5})),
            (audience(), json!({"exp": soon, "aud": "film"})),
            (audience(), json!({"exp": soon, "aud": ["x", "video"]})),
            (issuer(), json!({"exp": soon, "iss": "us"})),
        ] {
            assert!(check(wanted, claims.clone()).is_ok(), "{claims}");
        }
        for (wanted, claims, says) in [
            (any(), json!({}), "no exp"),
            (any(), json!({"exp": null}), "no exp"),
            (any(), json!({"exp": "tomorrow"}), "no exp"),
            (any(), json!({"exp": -1}), "no exp"),
            (any(), json!({"exp": now() - 60}), "over (exp)"),
            (any(), json!({"exp": 0}), "over (exp)"),
            (
                any(),
                json!({"exp": soon, "nbf": now() + 60}),
                "not come (nbf)",
            ),
            (any(), json!({"exp": soon, "nbf": "now"}), "no JWT"),
            // A token for somebody else is not for a server that has no name.
            (any(), json!({"exp": soon, "aud": "video"}), "audience"),
            (audience(), json!({"exp": soon}), "no aud"),
            (
                audience(),
                json!({"exp": soon, "aud": "videos"}),
                "audience",
            ),
            (audience(), json!({"exp": soon, "aud": ["x"]}), "audience"),
            (audience(), json!({"exp": soon, "aud": {"video": 1}}), "no"),
            (issuer(), json!({"exp": soon}), "no iss"),
            (issuer(), json!({"exp": soon, "iss": "them"}), "issuer"),
        ] {
            let why = check(wanted, claims.clone()).unwrap_err();
            assert!(why.contains(says), "{claims}: {why}");
        }
    }

    #[test]
    fn prefixes_are_an_array_or_a_text() {
        let wanted = JwtConfig {
            prefix_claim: Some("videos".into()),
            ..JwtConfig::default()
        };
        let keys = Keys::of_file(SECRET, &wanted).unwrap();
        let check = |claim: Value| {
            let claims = json!({"exp": now() + 600, "videos": claim});
            let claims = keys.check(&sign(&Header::default(), &claims, &secret()))?;
            Ok::<_, &str>(claims.prefixes.unwrap())
        };
        let two = || Ok(vec!["flights/2026".to_owned(), "lab".to_owned()]);
        assert_eq!(check(json!(["flights/2026", "lab"])), two());
        assert_eq!(check(json!(" flights/2026  lab")), two());
        assert_eq!(check(json!([])), Ok(vec![]));
        assert_eq!(check(json!("")), Ok(vec![]));
        assert_eq!(
            check(json!(["my flights"])),
            Ok(vec!["my flights".to_owned()])
        );
        for claim in [json!(null), json!(7), json!([1]), json!({}), json!(true)] {
            assert!(check(claim.clone()).is_err(), "{claim}");
        }
        let without = sign(&Header::default(), &good(), &secret());
        assert_eq!(keys.check(&without), Err("it has no claim of prefixes"));
    }

    #[test]
    fn a_set_of_keys_is_chosen_from_by_kid_and_algorithm() {
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = ec.public_key().as_ref();
        let coded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let of_ec = json!({"kty": "EC", "crv": "P-256", "kid": "e", "use": "sig",
            "x": coded(&point[1..33]), "y": coded(&point[33..])});
        let of_secret = |kid: &str, secret: &[u8]| json!({"kty": "oct", "kid": kid, "alg": "HS256", "k": coded(secret)});
        let others = [
            json!({"kty": "oct", "kid": "s", "use": "enc", "k": coded(SECRET)}),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": coded(&[1; 32])}),
            json!({"kty": "oct", "kid": "w", "alg": "HS512", "k": coded(SECRET)}),
            json!({"kty": "oct", "kid": "m", "key_ops": ["sign"], "k": coded(SECRET)}),
            json!({"kty": "new", "kid": "n"}),
        ];
        let of = |keys: Vec<Value>| {
            let text = json!({"keys": keys}).to_string();
            Keys::of_set(text.as_bytes(), &JwtConfig::default())
        };
        let mut all = others.to_vec();
        all.extend([
            of_ec.clone(),
            of_secret("one", SECRET),
            of_secret("two", &[9; 32]),
        ]);
        let keys = of(all).unwrap();
        assert_eq!(keys.keys.len(), 3);
        let token = |algorithm, kid: Option<&str>, key: &EncodingKey| {
            let mut header = Header::new(algorithm);
            header.kid = kid.map(str::to_owned);
            sign(&header, &good(), key)
        };
        let private = ec.to_pkcs8v1().unwrap();
        let private = pem("PRIVATE KEY", private.as_ref());
        let private = EncodingKey::from_ec_pem(private.as_bytes()).unwrap();
        let (one, two) = (secret(), EncodingKey::from_secret(&[9; 32]).unwrap());
        for (algorithm, kid, key, good) in [
            (Algorithm::ES256, Some("e"), &private, true),
            (Algorithm::ES256, None, &private, true),
            (Algorithm::ES256, Some("one"), &private, false),
            (Algorithm::HS256, Some("one"), &one, true),
            (Algorithm::HS256, Some("two"), &two, true),
            (Algorithm::HS256, None, &two, true),
            // The kid of another key.
            (Algorithm::HS256, Some("two"), &one, false),
            (Algorithm::HS256, Some("e"), &one, false),
            (Algorithm::HS256, Some("none"), &one, false),
            (Algorithm::HS256, Some("../one"), &one, false),
        ] {
            let checked = keys.check(&token(algorithm, kid, key));
            assert_eq!(checked.is_ok(), good, "{algorithm:?} {kid:?}");
        }
        // The point of the public key is no secret.
        let confused = EncodingKey::from_secret(point).unwrap();
        assert!(
            keys.check(&token(Algorithm::HS256, Some("e"), &confused))
                .is_err()
        );
        for (set, says) in [
            (of(others.to_vec()), "no key for"),
            (of(vec![]), "no key for"),
            (of(vec![of_ec.clone(), of_ec.clone()]), "kid e"),
            (of(vec![of_secret("short", &[1; 31])]), "key 1 (short)"),
            (
                of(vec![
                    json!({"kty": "RSA", "n": coded(&[200; 128]), "e": "AQAB"}),
                ]),
                "RS256",
            ),
            (
                of(vec![
                    json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
                ]),
                "ES256",
            ),
            (
                Keys::of_set(b"{\"keys\": 7}", &JwtConfig::default()),
                "line 1",
            ),
            (Keys::of_set(b"hunter2", &JwtConfig::default()), "line 1"),
        ] {
            let why = set.err().unwrap();
            assert!(why.contains(says) && !why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn a_key_file_that_is_not_what_it_should_be_is_refused() {
        let (rsa, other) = (rsa(KeySize::Rsa2048), ec(&ECDSA_P384_SHA384_FIXED_SIGNING));
        let files: [(&[u8], &str); 10] = [
            (rsa.private.as_bytes(), "private key"),
            (other.public.as_bytes(), "P-256"),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
                "no PUBLIC KEY",
            ),
            (
                b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
                "no key of RSA",
            ),
            (b"-----BEGIN PUBLIC KEY-----", "no key of RSA"),
            (b"", "at least 32"),
            (b"short\n", "at least 32"),
            (b"{\"keys\": []}                            ", "JWKS"),
            (b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7", "another form"),
            (&[&[0x30_u8, 0x82][..], &[0; 300]].concat(), "another form"),
        ];
        for (file, says) in files {
            let why = Keys::of_file(file, &JwtConfig::default()).err().unwrap();
            assert!(why.contains(says), "{why}");
        }
        // A line's end behind a secret is not part of it.
        for end in ["", "\n", "\r\n"] {
            let file = [SECRET, end.as_bytes()].concat();
            let token = sign(&Header::default(), &good(), &secret());
            assert!(keys(&file).check(&token).is_ok());
        }
        assert_eq!(format!("{:?}", keys(SECRET)), "Keys(1)");
    }
}
