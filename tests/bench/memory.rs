//! What Envoy keeps of updates: its resident memory over a long row of them.
//!
//! They follow each other as fast as the sidecar can be told to send them, and the Envoys of all sizes get
//! theirs at the same time, because what one leaves behind does not depend on when the next one comes.

use anyhow::Result;
use harness::Kind;
use serde_json::{Map, Value, json};
use tokio::task::{JoinSet, LocalSet};

use crate::delivery::{self, Stage};
use crate::figures::rounded;
use crate::home::Home;
use crate::machine::Cores;
use crate::profile::Profile;
use crate::responder::Responder;

/// The shortest that the sidecar takes.
const SETTINGS: [(&str, &str); 1] = [("POINTSMAN_CHANGE_INTERVAL", "10ms")];
/// Points of the line.
const SAMPLES: usize = 50;
/// The first updates, one in so many, make room that later ones use again.
const SETTLING: usize = 5;

/// Follows the memory at every size of the profile.
pub async fn run(profile: &Profile, cores: Cores) -> Result<Map<String, Value>> {
    let (local, mut sizes) = (LocalSet::new(), JoinSet::new());
    for &(backends, updates) in profile.updates {
        println!("  Envoy's memory over {updates} updates of {backends} backends");
        sizes.spawn_local_on(size(backends, updates, cores), &local);
    }
    let all = local.run_until(sizes.join_all()).await;
    all.into_iter().collect()
}

/// One size's figure.
async fn size(backends: u32, updates: usize, cores: Cores) -> Result<(String, Value)> {
    let responder = Responder::start(cores.others).await?;
    let home = Home::new(Kind::File, delivery::document(&responder, backends)).await?;
    let mut stage = Stage::start_with(home, responder, &SETTINGS).await?;
    let line = follow(&mut stage, updates).await?;
    Ok((format!("demo.{backends}"), figure(updates, &line)))
}

/// Pairs of updates so far and resident bytes.
async fn follow(stage: &mut Stage, updates: usize) -> Result<Vec<(usize, u64)>> {
    let step = (updates / SAMPLES).max(1);
    let mut line = Vec::new();
    for update in 0..updates {
        if update % step == 0 {
            line.push((update, stage.envoy().resident()?));
        }
        stage.update().await?;
    }
    line.push((updates, stage.envoy().resident()?));
    Ok(line)
}

/// As in the report: the line itself, its ends, and its slope.
fn figure(updates: usize, line: &[(usize, u64)]) -> Value {
    let settled = &line[line.len() / SETTLING..];
    json!({
        "updates": updates,
        "startBytes": line.first().map(|point| point.1),
        "settledBytes": settled.first().map(|point| point.1),
        "endBytes": line.last().map(|point| point.1),
        "bytesPerUpdate": slope(settled).map(rounded),
        "samples": line,
    })
}

/// Bytes per update, by least squares; `None` of fewer than two points.
fn slope(line: &[(usize, u64)]) -> Option<f64> {
    let count = line.len() as f64;
    let point = |&(update, bytes): &(usize, u64)| (update as f64, bytes as f64);
    let mean = |of: fn((f64, f64)) -> f64| line.iter().map(point).map(of).sum::<f64>() / count;
    let (across, up) = (mean(|it| it.0), mean(|it| it.1));
    let off = line.iter().map(point).map(|(x, y)| (x - across, y - up));
    let (mut common, mut square) = (0.0, 0.0);
    for (x, y) in off {
        common += x * y;
        square += x * x;
    }
    (square > 0.0).then(|| common / square)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line() {
        assert_eq!(slope(&[(0, 100), (10, 130), (20, 160)]), Some(3.0));
        assert_eq!(slope(&[(0, 5), (1, 5), (2, 5)]), Some(0.0));
        assert_eq!(slope(&[(3, 5)]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn what_settles_first_is_no_growth() {
        let line: Vec<(usize, u64)> = (0..10).map(|i| (i, if i < 2 { 1 } else { 9 })).collect();
        let figure = figure(9, &line);
        assert_eq!(figure["bytesPerUpdate"], json!(0.0));
        assert_eq!(
            (&figure["startBytes"], &figure["endBytes"]),
            (&json!(1), &json!(9))
        );
    }
}
