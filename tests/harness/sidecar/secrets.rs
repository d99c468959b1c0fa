//! Which of a sidecar's settings are secret, and the search for them.

use anyhow::{Result, bail};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Settings that are secret as a whole.
const SECRETS: [&str; 3] = [
    "POINTSMAN_XDS_TOKEN",
    "POINTSMAN_ADMIN_TOKEN",
    "POINTSMAN_SENTINEL_PASSWORD",
];
/// Shorter ones stand in any text by chance.
const LENGTH_MIN: usize = 6;
/// How much of the text around a secret an error quotes.
const AROUND: usize = 60;

/// The secrets among these settings: tokens, the password of the URL, and what filters show at the
/// exchange.
pub fn of(environment: &[(String, String)]) -> Vec<String> {
    let secret = |(name, value): &(String, String)| match name.as_str() {
        "REDIS_URL" => {
            let (_, rest) = value.split_once("://")?;
            let (login, _) = rest.rsplit_once('@')?;
            Some(login.split_once(':')?.1.to_owned())
        }
        name => SECRETS.contains(&name).then(|| value.clone()),
    };
    let derived = |(name, value): &(String, String)| {
        let is_source = name == "POINTSMAN_XDS_TOKEN" && !value.is_empty();
        is_source.then(|| exchange_token(value))
    };
    let found = environment.iter().filter_map(secret);
    let found = found.chain(environment.iter().filter_map(derived));
    found.filter(|it| it.len() >= LENGTH_MIN).collect()
}

/// What the sidecar derives from the xDS token for the exchange: it stands in the filters'
/// configuration and nowhere else.
fn exchange_token(token: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(token.as_bytes());
    let mut mac = mac.expect("HMAC takes keys of any length");
    mac.update(b"pointsman-exchange");
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fails when one of them stands in this text.
pub fn ensure_none(secrets: &[String], text: &str) -> Result<()> {
    for secret in secrets {
        if let Some(at) = text.find(secret.as_str()) {
            let before: String = text[..at].chars().rev().take(AROUND).collect();
            let before: String = before.chars().rev().collect();
            bail!("a secret stands there, after {before:?}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_and_found() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let secrets = of(&[
            pair("REDIS_URL", "redis+sentinel://pm:geheim@a,b/main"),
            pair("POINTSMAN_ADMIN_TOKEN", "a-token"),
            pair("POINTSMAN_XDS_TOKEN", "abc"),
            pair("ENVIRONMENT", "test"),
        ]);
        assert_eq!(secrets[..2], ["geheim", "a-token"]);
        // Too short to be searched for itself.
        assert_eq!(secrets[2..], [exchange_token("abc")]);
        ensure_none(&secrets, "redis://pm:***@a").unwrap();
        let leak = ensure_none(&secrets, "at redis://pm:geheim@a").unwrap_err();
        assert_eq!(
            leak.to_string(),
            "a secret stands there, after \"at redis://pm:\""
        );
    }

    #[test]
    fn the_exchange_token_is_the_sidecars() {
        // Computed with another implementation.
        let expected = "41bb5d045423be55f7009e3d075e44cb\
                        c7de1d19a5b11ad7fcfd4129eb0a54e9";
        assert_eq!(exchange_token("s3cret"), expected);
    }
}
