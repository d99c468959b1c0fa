//! Which of a sidecar's settings are secret, and the search for them.

use anyhow::{Result, bail};

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

/// The secrets among these settings: tokens, and the password of the URL.
pub fn of(environment: &[(String, String)]) -> Vec<String> {
    let secret = |(name, value): &(String, String)| match name.as_str() {
        "REDIS_URL" => {
            let (_, rest) = value.split_once("://")?;
            let (login, _) = rest.rsplit_once('@')?;
            Some(login.split_once(':')?.1.to_owned())
        }
        name => SECRETS.contains(&name).then(|| value.clone()),
    };
    let found = environment.iter().filter_map(secret);
    found.filter(|it| it.len() >= LENGTH_MIN).collect()
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
        assert_eq!(secrets, ["geheim", "a-token"]);
        ensure_none(&secrets, "redis://pm:***@a").unwrap();
        let leak = ensure_none(&secrets, "at redis://pm:geheim@a").unwrap_err();
        assert_eq!(
            leak.to_string(),
            "a secret stands there, after \"at redis://pm:\""
        );
    }
}
