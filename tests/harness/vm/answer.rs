//! What the host answers to each function that a module calls.

use anyhow::Result;
use wasmi::{Caller, Val};

use super::function::Function;
use super::host::{
    BAD_ARGUMENT, CONFIGURATION, Host, NOT_FOUND, OK, POST_BODY, POST_HEADERS, Phase, REQUEST_BODY,
    REQUEST_HEADERS, RESPONSE_HEADERS, Values,
};
use super::memory::{hand_over, read, read_text, write};

/// One call of the module.
struct Call<'a> {
    function: Function,
    given: &'a [Val],
    subject: String,
}

impl Call<'_> {
    fn argument(&self, index: usize) -> i32 {
        argument(self.given, index)
    }

    fn number(&self, index: usize) -> i64 {
        self.given.get(index).and_then(Val::i64).unwrap_or(0)
    }
}

fn argument(given: &[Val], index: usize) -> i32 {
    given.get(index).and_then(Val::i32).unwrap_or(0)
}

/// Answers one call of the module.
pub(super) fn answer(
    caller: &mut Caller<'_, Host>,
    function: Function,
    given: &[Val],
) -> Result<u32> {
    let subject = subject(caller, function, given)?;
    let host = caller.data_mut();
    host.note(function, &subject)?;
    if let Some(mut interference) = host.interference.take() {
        let status = interference.before(function, &subject, host);
        host.interference = Some(interference);
        if let Some(status) = status {
            return Ok(status);
        }
    }
    let call = Call {
        function,
        given,
        subject,
    };
    match function {
        Function::TickPeriod | Function::EffectiveContext => Ok(OK),
        Function::Log => log(caller, &call),
        Function::Time => time(caller, &call),
        Function::Buffer => buffer(caller, &call),
        Function::Property => property(caller, &call),
        Function::SetProperty => set_property(caller, &call),
        Function::Headers | Function::Header => get_header(caller, &call),
        Function::ReplaceHeader | Function::AddHeader | Function::RemoveHeader => {
            set_header(caller, &call)
        }
        Function::Shared => shared(caller, &call),
        Function::SetShared => set_shared(caller, &call),
        Function::DefineMetric => define_metric(caller, &call),
        Function::IncrementMetric => increment_metric(caller, &call),
        Function::RecordMetric => {
            let value = call.number(1).cast_unsigned();
            Ok(caller.data_mut().change_metric(call.argument(0), |_| value))
        }
        Function::Answer => Ok(caller
            .data_mut()
            .answer_locally(call.argument(0).cast_unsigned())),
        Function::Post => post(caller, &call),
    }
}

fn log(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let line = read_text(caller, call.argument(1), call.argument(2))?;
    caller.data_mut().log.push((call.argument(0), line));
    Ok(OK)
}

fn time(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let now_ns = caller.data().now_ns;
    write(caller, call.argument(0), &now_ns.to_le_bytes())?;
    Ok(OK)
}

fn buffer(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let host = caller.data_mut();
    let bytes = match (call.argument(0), host.phase) {
        (REQUEST_BODY, Phase::RequestBody) => host.request_body.clone(),
        (CONFIGURATION, Phase::Configure) => host.configuration.clone(),
        (POST_BODY, Phase::PostAnswered { has_headers: true }) => host.post_body.clone(),
        _ => {
            host.offence(call.subject.clone());
            return Ok(NOT_FOUND);
        }
    };
    let start = call.argument(1).cast_unsigned() as usize;
    let most = call.argument(2).cast_unsigned() as usize;
    let bytes = bytes.get(start..).unwrap_or(&[]);
    let bytes = bytes.get(..most.min(bytes.len())).unwrap_or(&[]);
    hand_over(caller, bytes, call.argument(3), call.argument(4))?;
    Ok(OK)
}

fn property(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let Some(value) = caller.data().properties.get(&call.subject).cloned() else {
        return Ok(NOT_FOUND);
    };
    hand_over(caller, &value, call.argument(2), call.argument(3))?;
    Ok(OK)
}

fn set_property(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let value = read(caller, call.argument(2), call.argument(3))?;
    caller.data_mut().set_property(&call.subject, value);
    Ok(OK)
}

fn get_header(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let map = call.argument(0);
    let Some(headers) = caller.data_mut().headers(map) else {
        return Ok(caller.data_mut().offence(format!("headers {map} are read")));
    };
    if call.function == Function::Headers {
        let bytes = pairs(headers)?;
        hand_over(caller, &bytes, call.argument(1), call.argument(2))?;
        return Ok(OK);
    }
    let headers = headers.clone();
    let name = read_text(caller, call.argument(1), call.argument(2))?;
    match headers.get(&name) {
        Some(value) => {
            hand_over(caller, value, call.argument(3), call.argument(4))?;
            Ok(OK)
        }
        None => Ok(NOT_FOUND),
    }
}

fn set_header(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let name = read_text(caller, call.argument(1), call.argument(2))?;
    let value = match call.function {
        Function::RemoveHeader => None,
        _ => Some(read(caller, call.argument(3), call.argument(4))?),
    };
    let adds = call.function == Function::AddHeader;
    let host = caller.data_mut();
    Ok(host.set_header(call.argument(0), &name, value, adds))
}

fn shared(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let Some((value, version)) = caller.data().shared.get(&call.subject).cloned() else {
        return Ok(NOT_FOUND);
    };
    write(caller, call.argument(4), &version.to_le_bytes())?;
    hand_over(caller, &value, call.argument(2), call.argument(3))?;
    Ok(OK)
}

fn set_shared(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let value = read(caller, call.argument(2), call.argument(3))?;
    let asked = call.argument(4).cast_unsigned();
    Ok(caller.data_mut().set_shared(&call.subject, value, asked))
}

fn define_metric(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let metrics = &mut caller.data_mut().metrics;
    metrics.push((call.subject.clone(), 0));
    let id = u32::try_from(metrics.len())?;
    write(caller, call.argument(3), &id.to_le_bytes())?;
    Ok(OK)
}

fn increment_metric(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let offset = u64::try_from(call.number(1)).unwrap_or(0);
    let host = caller.data_mut();
    if offset == 0 {
        let what = format!("{} goes up by {}", call.subject, call.number(1));
        return Ok(host.offence(what));
    }
    Ok(host.change_metric(call.argument(0), |value| value.wrapping_add(offset)))
}

fn post(caller: &mut Caller<'_, Host>, call: &Call<'_>) -> Result<u32> {
    let body = read(caller, call.argument(4), call.argument(5))?;
    let Some(token) = caller.data_mut().post(body) else {
        return Ok(BAD_ARGUMENT);
    };
    write(caller, call.argument(9), &token.to_le_bytes())?;
    Ok(OK)
}

/// What a call is about.
fn subject(caller: &mut Caller<'_, Host>, function: Function, given: &[Val]) -> Result<String> {
    let argument = |index: usize| argument(given, index);
    let text =
        |caller: &Caller<'_, Host>, at: usize| read_text(caller, argument(at), argument(at + 1));
    Ok(match function {
        Function::Time | Function::TickPeriod | Function::EffectiveContext => String::new(),
        Function::Log => {
            let line = text(caller, 1)?;
            line.split(' ').next().unwrap_or("").to_owned()
        }
        Function::Buffer => match argument(0) {
            CONFIGURATION => "configuration".to_owned(),
            REQUEST_BODY => "request body".to_owned(),
            POST_BODY => "body of a post's answer".to_owned(),
            other => format!("buffer {other}"),
        },
        Function::Property | Function::SetProperty => text(caller, 0)?.replace('\0', "."),
        Function::Headers => map_name(argument(0)),
        Function::Header
        | Function::ReplaceHeader
        | Function::RemoveHeader
        | Function::AddHeader => format!("{} {}", map_name(argument(0)), text(caller, 1)?),
        Function::Shared | Function::SetShared | Function::Post => text(caller, 0)?,
        Function::DefineMetric => text(caller, 1)?,
        Function::IncrementMetric | Function::RecordMetric => {
            let index = usize::try_from(argument(0)).unwrap_or(0).wrapping_sub(1);
            let metric = caller.data().metrics.get(index);
            metric.map_or_else(|| "unknown".to_owned(), |(name, _)| name.clone())
        }
        Function::Answer => argument(0).to_string(),
    })
}

fn map_name(map: i32) -> String {
    match map {
        REQUEST_HEADERS => "request".to_owned(),
        RESPONSE_HEADERS => "response".to_owned(),
        POST_HEADERS => "post's answer".to_owned(),
        other => format!("map {other}"),
    }
}

/// A map as the host writes it: how many, the sizes of each name and value, then each with a NUL.
fn pairs(headers: &Values) -> Result<Vec<u8>> {
    let mut bytes = u32::try_from(headers.len())?.to_le_bytes().to_vec();
    for (name, value) in headers {
        for size in [name.len(), value.len()] {
            bytes.extend(u32::try_from(size)?.to_le_bytes());
        }
    }
    for (name, value) in headers {
        for text in [name.as_bytes(), value] {
            bytes.extend(text);
            bytes.push(0);
        }
    }
    Ok(bytes)
}
