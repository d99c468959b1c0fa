//! Bytes between the host and the module's linear memory.

use anyhow::{Context, Result, anyhow};
use wasmi::{Caller, Extern, Func, Val};

use super::host::Host;

/// Reads the module's bytes.
pub fn read(caller: &Caller<'_, Host>, at: i32, size: i32) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size.cast_unsigned() as usize];
    memory(caller)?
        .read(caller, at.cast_unsigned() as usize, &mut bytes)
        .map_err(|error| anyhow!("{error}"))?;
    Ok(bytes)
}

/// Reads a text; names and messages must be UTF-8, header values need not be.
pub fn read_text(caller: &Caller<'_, Host>, at: i32, size: i32) -> Result<String> {
    Ok(String::from_utf8(read(caller, at, size)?)?)
}

/// Writes to a place of the module.
pub fn write(caller: &mut Caller<'_, Host>, at: i32, bytes: &[u8]) -> Result<()> {
    memory(caller)?
        .write(caller, at.cast_unsigned() as usize, bytes)
        .map_err(|error| anyhow!("{error}"))
}

/// Puts bytes where the module allocates them, and says where and how many.
pub fn hand_over(caller: &mut Caller<'_, Host>, bytes: &[u8], at: i32, size: i32) -> Result<()> {
    let allocate = ["proxy_on_memory_allocate", "malloc"]
        .into_iter()
        .find_map(|name| caller.get_export(name).and_then(Extern::into_func));
    let allocate: Func = allocate.context("the module exports no allocator")?;
    let length = i32::try_from(bytes.len())?;
    let place = if bytes.is_empty() {
        0
    } else {
        let mut place = [Val::I32(0)];
        allocate
            .call(&mut *caller, &[Val::I32(length)], &mut place)
            .map_err(|error| anyhow!("{error}"))?;
        place[0].i32().context("no address")?
    };
    write(caller, place, bytes)?;
    write(caller, at, &place.to_le_bytes())?;
    write(caller, size, &length.to_le_bytes())
}

fn memory(caller: &Caller<'_, Host>) -> Result<wasmi::Memory> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    memory.context("the module exports no memory")
}
