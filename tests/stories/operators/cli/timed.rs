//! Words at a time and until a time, and waiting for one.

use harness::SOON;

use super::*;

const DAY_MS: u64 = 86_400_000;
/// 2099-01-01T00:00:00Z.
const FAR_MS: u64 = 4_070_908_800_000;

async fn json_of(sidecar: &Sidecar, arguments: &[&str]) -> Result<Value> {
    let text = done(sidecar, &[arguments, &["-o", "json"]].concat(), "").await?;
    Ok(serde_json::from_str(&text)?)
}

#[tokio::test]
async fn words_at_a_time_on_the_clock() -> Result<()> {
    let (sidecar, _registry, _one) = sidecar(&[]).await?;
    let far = [
        "drain",
        "orders",
        "one",
        "--at",
        "2099-01-01T01:00:00+01:00",
    ];
    let said = json_of(&sidecar, &far).await?;
    assert_eq!(
        (&said["startsAt"], &said["state"]),
        (&json!(FAR_MS), &json!("Draining"))
    );
    let until = "2099-01-01T00:00:00Z";
    let said = json_of(&sidecar, &["cordon", "orders", "one", "--until", until]).await?;
    assert_eq!(said["expiresAt"], FAR_MS);
    // The one that is to follow stands beside the one in force.
    let words = json_of(&sidecar, &["get", "overrides"]).await?;
    assert_eq!(words["overrides"][0]["expiresAt"], FAR_MS);
    assert_eq!(words["overrides"][1]["startsAt"], FAR_MS);
    let before = u64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_millis())?;
    let said = json_of(&sidecar, &["uncordon", "orders", "one", "--at", "12:30"]).await?;
    let end = said["expiresAt"].as_u64().context("no time")?;
    assert_eq!(end % DAY_MS, (12 * 60 + 30) * 60_000, "UTC");
    ensure!(end > before && end <= before + 2 * DAY_MS, "{before} {end}");
    assert_eq!(said["state"], "Cordoned", "until then");
    done(&sidecar, &["uncordon", "orders", "one"], "").await?;
    let words = json_of(&sidecar, &["get", "overrides"]).await?;
    assert_eq!(
        words["overrides"],
        json!([]),
        "what was to follow went with it"
    );
    let nothing = ["uncordon", "orders", "one", "--in", "1h"];
    fails(&sidecar, &nothing, 1, "no cordon and no drain").await?;

    for (flags, code, part) in [
        (
            &["--at", "2001-01-01T00:00:00Z"][..],
            1,
            "--at: has passed already",
        ),
        (
            &["--until", "2001-01-01T00:00:00Z"],
            1,
            "--until: has passed",
        ),
        (&["--at", "noon"], 2, "a time of day in UTC such as 22:00"),
        (&["--at", "12:30", "--in", "5m"], 2, "cannot be used with"),
        (
            &["--until", "12:30", "--for", "5m"],
            2,
            "cannot be used with",
        ),
        (&["--at", "12:30", "--wait"], 2, "cannot be used with"),
        (&["--timeout", "5m"], 2, "--wait"),
        (&["--wait", "--timeout", "long"], 2, "must be a duration"),
        (
            &["--at", until, "--until", "2098-12-31T23:59:59Z"],
            1,
            "expiresAt: has passed by then",
        ),
    ] {
        let arguments = [&["drain", "orders", "one"], flags].concat();
        fails(&sidecar, &arguments, code, part).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_wait_that_nobody_can_end_has_a_code_of_its_own() -> Result<()> {
    let (sidecar, _registry, _one) = sidecar(&[]).await?;
    let drain = ["drain", "orders", "one", "--wait", "--timeout", "300ms"];
    let late = fails(&sidecar, &drain, 3, "no proxy reports to this sidecar").await?;
    assert_eq!(late.out, "");
    let late = operate(&sidecar, &[&drain[..], &["-o", "json"]].concat(), "").await?;
    let answer: Value = serde_json::from_str(&late.out)?;
    assert_eq!(
        (late.code, &answer["reach"], &answer["state"]),
        (3, &json!("Unknown"), &json!("Draining"))
    );
    // The word holds all the same, and a wait ends when it is taken back.
    let patient = ["cordon", "orders", "one", "--wait", "--timeout", "20s"];
    let waiting = operate(&sidecar, &patient, "");
    let taking_back = async {
        eventually(SOON, "the cordon", async || {
            let words = json_of(&sidecar, &["get", "overrides"]).await?;
            ensure!(words["overrides"][0]["state"] == "Cordoned", "{words}");
            Ok(())
        })
        .await?;
        done(&sidecar, &["uncordon", "orders", "one"], "").await
    };
    let (waited, taken_back) = tokio::join!(waiting, taking_back);
    taken_back?;
    let waited = waited?;
    assert_eq!(waited.code, 1, "{waited:?}");
    ensure!(
        waited.errors.contains("it takes requests again"),
        "{waited:?}"
    );
    Ok(())
}
