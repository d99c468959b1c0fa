//! The shipped module in an interpreter, with a host that counts: what the filter asks for per
//! request, and how much memory it has. Neither depends on the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use wasmi::{Caller, Engine, Extern, ExternType, Func, Instance, Linker, Module, Store, Val};

const ROOT: i32 = 1;
const STREAM: i32 = 2;
const OK: i32 = 0;
const NOT_FOUND: i32 = 1;
const MISMATCH: i32 = 8;
/// Any time will do.
const NOW_NS: u64 = 1_800_000_000_000_000_000;
/// The host's numbers of what it is asked for.
const REQUEST_HEADERS: i32 = 0;
const PLUGIN_CONFIGURATION: i32 = 7;

/// A module in its VM.
pub struct Vm {
    store: Store<Host>,
    instance: Instance,
}

/// What the host knows, and how often it was asked.
#[derive(Default)]
struct Host {
    configuration: Vec<u8>,
    request_headers: BTreeMap<String, Vec<u8>>,
    response_headers: BTreeMap<String, Vec<u8>>,
    properties: BTreeMap<String, Vec<u8>>,
    shared: BTreeMap<String, (Vec<u8>, u32)>,
    calls: BTreeMap<String, u32>,
}

impl Vm {
    /// Starts a module with a configuration.
    pub fn start(module: &Path, configuration: &str) -> Result<Self> {
        let engine = Engine::default();
        let bytes = fs::read(module)?;
        let module = Module::new(&engine, &bytes).map_err(|error| anyhow!("{error}"))?;
        let host = Host {
            configuration: configuration.as_bytes().to_vec(),
            ..Host::default()
        };
        let mut store = Store::new(&engine, host);
        let mut linker = Linker::new(&engine);
        for import in module.imports() {
            let ExternType::Func(signature) = import.ty() else {
                continue;
            };
            let name = import.name().to_owned();
            linker.func_new(
                import.module(),
                import.name(),
                signature.clone(),
                move |mut caller, arguments, results| {
                    let status = answer(&mut caller, &name, arguments)
                        .map_err(|error| wasmi::Error::new(format!("{name}: {error:#}")))?;
                    if let Some(result) = results.first_mut() {
                        *result = Val::I32(status);
                    }
                    Ok(())
                },
            )?;
        }
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        let mut vm = Vm { store, instance };
        if vm.instance.get_func(&vm.store, "_initialize").is_some() {
            vm.call("_initialize", &[])?;
        }
        vm.call("proxy_on_context_create", &[ROOT, 0])?;
        vm.call("proxy_on_vm_start", &[ROOT, 0])?;
        let size = i32::try_from(configuration.len())?;
        let configured = vm.call("proxy_on_configure", &[ROOT, size])?;
        ensure!(configured == Some(1), "the configuration was refused");
        Ok(vm)
    }

    /// Linear memory, bytes.
    pub fn memory(&self) -> Result<u64> {
        let memory = self.instance.get_memory(&self.store, "memory");
        Ok(memory
            .context("the module exports no memory")?
            .data_size(&self.store) as u64)
    }

    /// Serves one request that its first entry answers; the host calls by phase and function. The
    /// gates are `gates`.
    pub fn good_request(&mut self, cluster: &str, headers: &[(&str, &str)]) -> Result<Value> {
        let host = self.store.data_mut();
        let text = |text: &str| text.as_bytes().to_vec();
        host.request_headers = [(":method", "GET"), (":path", "/"), (":authority", "bench")]
            .iter()
            .chain(headers)
            .map(|(name, value)| ((*name).to_owned(), text(value)))
            .collect();
        host.properties = BTreeMap::from([("xds.cluster_name".to_owned(), text(cluster))]);
        host.calls.clear();
        self.call("proxy_on_context_create", &[STREAM, ROOT])?;
        self.call("proxy_on_request_headers", &[STREAM, 3, 1])?;
        let request = std::mem::take(&mut self.store.data_mut().calls);

        let host = self.store.data_mut();
        let list = host.request_headers.get("x-gateway-destination-endpoint");
        let list = String::from_utf8_lossy(list.map_or(&[], Vec::as_slice)).into_owned();
        if let Some(first) = list.split(',').next().filter(|first| !first.is_empty()) {
            let known = [("upstream.address", text(first))];
            host.properties
                .extend(known.map(|(path, value)| (path.to_owned(), value)));
            let attempts = 1u64.to_le_bytes().to_vec();
            host.properties
                .insert("upstream.request_attempt_count".to_owned(), attempts);
        }
        host.response_headers = BTreeMap::from([(":status".to_owned(), text("200"))]);
        self.call("proxy_on_response_headers", &[STREAM, 1, 0])?;
        self.call("proxy_on_response_body", &[STREAM, 2, 1])?;
        let response = std::mem::take(&mut self.store.data_mut().calls);
        self.call("proxy_on_done", &[STREAM])?;
        self.call("proxy_on_log", &[STREAM])?;
        self.call("proxy_on_delete", &[STREAM])?;
        let log = std::mem::take(&mut self.store.data_mut().calls);

        let phases = [&request, &response, &log];
        let total: u32 = phases.iter().flat_map(|calls| calls.values()).sum();
        Ok(json!({"total": total, "request": request, "response": response, "log": log}))
    }

    /// Sends a request that Envoy could not connect for: its endpoint backs off from now on.
    pub fn refused_request(&mut self, cluster: &str) -> Result<()> {
        self.store
            .data_mut()
            .properties
            .insert("xds.cluster_name".to_owned(), cluster.into());
        self.call("proxy_on_context_create", &[STREAM, ROOT])?;
        self.call("proxy_on_request_headers", &[STREAM, 3, 1])?;
        let host = self.store.data_mut();
        let list = host.request_headers.get("x-gateway-destination-endpoint");
        let list = String::from_utf8_lossy(list.map_or(&[], Vec::as_slice)).into_owned();
        let first = list.split(',').next().unwrap_or_default();
        for (path, value) in [
            ("upstream.address", first.as_bytes().to_vec()),
            ("upstream.request_attempt_count", 1u64.to_le_bytes().into()),
            ("response.flags", 0x20u64.to_le_bytes().into()),
        ] {
            host.properties.insert(path.to_owned(), value);
        }
        host.response_headers = BTreeMap::from([(":status".to_owned(), b"503".to_vec())]);
        for (callback, arguments) in [
            ("proxy_on_response_headers", &[STREAM, 1, 0][..]),
            ("proxy_on_done", &[STREAM]),
            ("proxy_on_log", &[STREAM]),
            ("proxy_on_delete", &[STREAM]),
        ] {
            self.call(callback, arguments)?;
        }
        let open = self.store.data().shared.iter();
        let mut gates = open.filter(|(_, (value, _))| !value.is_empty());
        ensure!(gates.next().is_some(), "no back-off was opened");
        Ok(())
    }

    /// Calls what the module exports; a callback that it does not export is none that it wants.
    fn call(&mut self, name: &str, arguments: &[i32]) -> Result<Option<i32>> {
        let Some(function) = self.instance.get_func(&self.store, name) else {
            return Ok(None);
        };
        let arguments: Vec<Val> = arguments.iter().map(|a| Val::I32(*a)).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        function
            .call(&mut self.store, &arguments, &mut results)
            .map_err(|error| anyhow!("{name}: {error}"))?;
        Ok(results.first().and_then(Val::i32))
    }
}

/// Answers one call of the module.
fn answer(caller: &mut Caller<'_, Host>, name: &str, arguments: &[Val]) -> Result<i32> {
    let argument = |index: usize| arguments.get(index).and_then(Val::i32).unwrap_or(0);
    *caller.data_mut().calls.entry(name.to_owned()).or_default() += 1;
    match name {
        "proxy_get_current_time_nanoseconds" => {
            write(caller, argument(0), &NOW_NS.to_le_bytes())?;
            Ok(OK)
        }
        "proxy_get_buffer_bytes" if argument(0) == PLUGIN_CONFIGURATION => {
            let bytes = caller.data().configuration.clone();
            hand_over(caller, &bytes, argument(3), argument(4))
        }
        "proxy_get_property" => {
            let path = read_text(caller, argument(0), argument(1))?.replace('\0', ".");
            match caller.data().properties.get(&path).cloned() {
                Some(value) => hand_over(caller, &value, argument(2), argument(3)),
                None => Ok(NOT_FOUND),
            }
        }
        "proxy_get_header_map_value" => {
            let key = read_text(caller, argument(1), argument(2))?;
            let host = caller.data();
            let map = match argument(0) {
                REQUEST_HEADERS => &host.request_headers,
                _ => &host.response_headers,
            };
            match map.get(&key).cloned() {
                Some(value) => hand_over(caller, &value, argument(3), argument(4)),
                None => Ok(NOT_FOUND),
            }
        }
        "proxy_replace_header_map_value" | "proxy_add_header_map_value" => {
            let key = read_text(caller, argument(1), argument(2))?;
            let value = read(caller, argument(3), argument(4))?;
            let host = caller.data_mut();
            let map = match argument(0) {
                REQUEST_HEADERS => &mut host.request_headers,
                _ => &mut host.response_headers,
            };
            map.insert(key, value);
            Ok(OK)
        }
        "proxy_get_shared_data" => {
            let key = read_text(caller, argument(0), argument(1))?;
            let Some((value, version)) = caller.data().shared.get(&key).cloned() else {
                return Ok(NOT_FOUND);
            };
            write(caller, argument(4), &version.to_le_bytes())?;
            hand_over(caller, &value, argument(2), argument(3))
        }
        "proxy_set_shared_data" => {
            let key = read_text(caller, argument(0), argument(1))?;
            let value = read(caller, argument(2), argument(3))?;
            let shared = &mut caller.data_mut().shared;
            let version = shared.get(&key).map(|(_, version)| *version);
            let asked = argument(4).cast_unsigned();
            if version.is_some_and(|version| asked != 0 && asked != version) {
                return Ok(MISMATCH);
            }
            shared.insert(key, (value, version.unwrap_or(0) + 1));
            Ok(OK)
        }
        _ => Ok(OK),
    }
}

fn memory(caller: &Caller<'_, Host>) -> Result<wasmi::Memory> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    memory.context("the module exports no memory")
}

fn read(caller: &Caller<'_, Host>, at: i32, size: i32) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size.cast_unsigned() as usize];
    memory(caller)?
        .read(caller, at.cast_unsigned() as usize, &mut bytes)
        .map_err(|error| anyhow!("{error}"))?;
    Ok(bytes)
}

fn read_text(caller: &Caller<'_, Host>, at: i32, size: i32) -> Result<String> {
    Ok(String::from_utf8(read(caller, at, size)?)?)
}

fn write(caller: &mut Caller<'_, Host>, at: i32, bytes: &[u8]) -> Result<()> {
    memory(caller)?
        .write(caller, at.cast_unsigned() as usize, bytes)
        .map_err(|error| anyhow!("{error}"))
}

/// Puts bytes where the module allocates them, and says where and how many.
fn hand_over(caller: &mut Caller<'_, Host>, bytes: &[u8], at: i32, size: i32) -> Result<i32> {
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
    write(caller, size, &length.to_le_bytes())?;
    Ok(OK)
}
