//! What it takes to send a client to the backend of its key.

use super::*;

#[test]
fn lb_12_requests_with_keys() -> Result<()> {
    let missing = "increment_metric pointsman_picks_total;c=orders;r=key_missing";
    let address = "get_property source.address";
    let header = "get_header_map_value request x-user";
    let cookie = "get_property request.headers.cookie";
    let (cluster, pick) = PICK.split_at(1);
    for (source, headers, asked, counted) in [
        (
            json!({"header": "X-User"}),
            vec![("x-user", "u1")],
            vec![header],
            vec![],
        ),
        (
            json!({"header": "x-user"}),
            vec![],
            vec![header, address],
            vec![missing],
        ),
        (
            json!({"cookie": "c"}),
            vec![("cookie", "a=b; c=u1")],
            vec![cookie],
            vec![],
        ),
        (
            json!({"cookie": "c"}),
            vec![],
            vec![cookie, address],
            vec![missing],
        ),
        (json!({"sourceIp": true}), vec![], vec![address], vec![]),
    ] {
        for policy in ["Rendezvous", "Maglev"] {
            let balancing = json!({"policy": policy, "affinity": source});
            let mut vm = vm(json!({"loadBalancing": balancing}))?;
            let request = Request {
                headers: headers.clone(),
                ..get()
            };
            let keyed = calls(&mut vm, &request)?;
            let list = [cluster, &asked, pick, &RETRIES, &counted];
            check(&keyed, &list, &[&ANSWERED], &[]);
        }
    }
    Ok(())
}
