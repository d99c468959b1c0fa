//! What it costs to read a body, whatever a client puts into it: so much a byte, and no memory.

use super::*;

const KIBIBYTE: usize = 1024;
const MEBIBYTE: usize = 1024 * KIBIBYTE;
/// The body's length whose every byte is looked at.
const LONG: usize = 256 * KIBIBYTE;
/// What Envoy reads at once of a connection, about.
const PIECE: usize = 16 * KIBIBYTE;
/// A stream of its own for each body.
const STREAM: i32 = 5;
/// Linear memory that a VM may need more for bodies, however large.
const GROWTH_MAX: u64 = 131_072;

/// Bodies that never say enough: how one begins, what it goes on with, and instructions for 1 kB of that.
const BODIES: [(&str, &str, u64); 19] = [
    ("[\"", "x", 5034),
    ("[\"", "\u{e9}", 5034),
    ("[\"", "x\\n", 663372),
    ("[\"", "\\u0041", 931990),
    ("[[", " ", 920741),
    ("[[", "1", 904357),
    ("[[", "1,", 948901),
    ("[[", "-1.5e+7,", 918693),
    ("[[", "false,", 919532),
    ("[[", "\"\",", 990024),
    ("[[", "{\"a\":[]},", 844506),
    ("[", DEEP, 949490),
    ("{", "\"a\":1,", 832155),
    ("{", "\"\\u0061\":1,", 1301376),
    ("{", "\"id\":1,", 710680),
    ("{", "\"method\":\"a\",", 475843),
    ("{\"", "x", 5040),
    ("{\"id\":\"", "\\n", 1057972),
    ("{\"id\":", "1", 950450),
];
/// Nearly as deep as an element may be.
const DEEP: &str = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],";
/// Instructions of one JSON-RPC request of 1 kB, up to its list: its method stands first, or last.
const REQUESTS: [(&str, u64); 2] = [("first", 47_234), ("last", 56_221)];

fn reader(program: &Program) -> Result<Vm> {
    let backends: Vec<_> = (0..3).map(|i| json!({"address": address(i)})).collect();
    let rules = json!({"maxBodyBytes": 16 * MEBIBYTE, "maxBatch": 10_000, "errors": "Map"});
    let cluster = json!({"name": CLUSTER, "jsonRpc": rules, "backends": backends});
    let mut vm = program.configured(&json!({"schema": 5, "clusters": [cluster]}).to_string())?;
    vm.serve(&Request::post(CLUSTER, "[1]"))?;
    Ok(vm)
}

/// Instructions for so many bytes of a body that begins so, in pieces of this size.
fn read(vm: &mut Vm, (start, part): (&str, &str), size: usize, piece: usize) -> Result<u64> {
    vm.create_stream(STREAM, ROOT)?;
    ensure!(vm.arrive(STREAM, &Request::post(CLUSTER, "[]"))?, "refused");
    ensure!(!vm.send_body(STREAM, start.as_bytes(), false)?, "picked");
    let body = part.repeat(size / part.len());
    let mut fuel = 0;
    for piece in body.as_bytes().chunks(piece) {
        let is_held = !vm.send_body(STREAM, piece, false)? && vm.host().local_answer.is_none();
        ensure!(is_held, "{start}{part} says enough");
        fuel += vm.fuel();
    }
    vm.delete(STREAM)?;
    Ok(fuel)
}

/// No body takes more than so much for each of its bytes, so that four times as long a one takes four times
/// as much, in whatever pieces it comes.
#[test]
fn rl_5_each_byte_of_a_body_costs_the_same() -> Result<()> {
    let mut vm = reader(&Program::load(&artefacts::module()?)?)?;
    let mut changed = Vec::new();
    for (start, part, recorded) in BODIES {
        let case = (start, part);
        let quarter = read(&mut vm, case, LONG / 4, PIECE)?;
        let all = read(&mut vm, case, LONG, PIECE)?;
        let at_once = read(&mut vm, case, LONG, LONG)?;
        for other in [quarter * 4, at_once] {
            let off = all.abs_diff(other) * 20;
            ensure!(off < all, "{case:?}: {all} and {other} instructions");
        }
        // By itself each costs one callback more.
        let short = read(&mut vm, case, 4 * KIBIBYTE, 1)?;
        let long = read(&mut vm, case, 16 * KIBIBYTE, 1)?;
        let off = long.abs_diff(short * 4) * 20;
        ensure!(off < long, "{case:?}, byte by byte: {short}, then {long}");
        let figure = all * KIBIBYTE as u64 / LONG as u64;
        compare(
            format!("({start:?}, {part:?}, {figure}),"),
            figure,
            recorded,
            &mut changed,
        );
    }
    no_change(&changed)
}

#[test]
fn a_json_rpc_request_takes_as_many_instructions_as_recorded() -> Result<()> {
    let mut vm = reader(&Program::load(&artefacts::module()?)?)?;
    let mut changed = Vec::new();
    let (start, end) = (r#"{"jsonrpc":"2.0","id":1"#, r#","method":"a""#);
    let params = format!(r#","params":["{}"]"#, "x".repeat(KIBIBYTE));
    for (name, recorded) in REQUESTS {
        let body = match name {
            "first" => format!("{start}{end}{params}}}"),
            _ => format!("{start}{params}{end}}}"),
        };
        vm.create_stream(STREAM, ROOT)?;
        ensure!(
            vm.arrive(STREAM, &Request::post(CLUSTER, &body))?,
            "refused"
        );
        let headers = vm.fuel();
        ensure!(vm.send_body(STREAM, body.as_bytes(), false)?, "not picked");
        let figure = headers + vm.fuel();
        vm.delete(STREAM)?;
        compare(
            format!("({name:?}, {figure}),"),
            figure,
            recorded,
            &mut changed,
        );
    }
    no_change(&changed)
}

/// A large body is read in windows: linear memory never shrinks.
#[test]
fn a_large_body_takes_no_memory() -> Result<()> {
    let mut vm = reader(&Program::load(&artefacts::module()?)?)?;
    let before = vm.memory()?;
    for (start, part, _) in BODIES {
        read(&mut vm, (start, part), MEBIBYTE, MEBIBYTE)?;
    }
    let grown = vm.memory()? - before;
    println!("{grown} bytes more");
    ensure!(grown <= GROWTH_MAX, "{grown} bytes");
    Ok(())
}
