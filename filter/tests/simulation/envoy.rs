//! What Envoy does with a list.

use pointsman_filter::balance::route::Plan;
use pointsman_filter::cluster::Cluster;
use pointsman_filter::config::Code;
use pointsman_filter::gates::evidence::Status;
use pointsman_filter::stream::Stream;
use pointsman_filter::stream::attempts::{Answer, Ending};

use super::{Day, MS, Manner, Request, SECOND};

impl Day {
    /// Envoy walks the list; entries it does not know yet are passed over, and then it may choose
    /// somebody itself.
    pub(super) fn send(
        &mut self,
        worker: usize,
        stream: Stream,
        cluster: &Cluster,
        plan: &Plan,
    ) -> Request {
        let (mut attempts, mut ending, mut address) = (0, Ending::Unanswered, None);
        let mut really_failed = Vec::new();
        let mut status = None;
        for entry in plan.list.entries() {
            if self.chance(3) {
                continue;
            }
            attempts += 1;
            let here = cluster.endpoint(*entry).unwrap().address.to_string();
            let manner = self.manners.get(&here).copied().unwrap_or(Manner::Answers);
            address = Some(here);
            status = (manner == Manner::Limits).then(|| {
                let asked_s = u64::from(self.rng.below(40));
                let asks = asked_s < 30;
                Status {
                    code: Code::http(429),
                    asked_ns: asks.then_some(asked_s * SECOND),
                }
            });
            ending = match manner {
                Manner::Answers | Manner::Limits => Ending::Answered,
                Manner::Refuses => Ending::ConnectFailed,
                Manner::Resets => Ending::Unanswered,
            };
            if ending == Ending::Answered {
                break;
            }
            really_failed.push(*entry);
        }
        if ending != Ending::Answered && attempts < plan.list.len() {
            (attempts, ending) = (attempts + 1, Ending::Answered);
            (address, status) = (Some("192.0.2.1:80".to_owned()), None);
        }
        // A client may leave while the last one is being asked.
        if self.chance(3) {
            (ending, status) = (Ending::Abandoned, None);
        }
        Request {
            worker,
            stream,
            due: self.now.plus(self.rng.between(0, 100 * MS)),
            answered: false,
            charged: true,
            answer: Answer {
                address: address.map(String::into_bytes),
                attempts,
                ending,
                connection_time_ns: None,
                status,
            },
            really_failed,
        }
    }
}
