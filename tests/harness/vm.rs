//! The shipped module in an interpreter, with a made-up host: every call of the module is seen, every
//! answer can be another, and nothing depends on the machine.
//!
//! [`host`] is what the host knows, `answer` what it answers, [`function`] what a module can call, [`memory`] how
//! bytes cross over, [`stream`] the life of one request.

mod answer;
pub mod function;
pub mod host;
mod memory;
pub mod stream;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use wasmi::{CompilationMode, Config, Engine, ExternType, Instance, Linker, Module, Store, Val};

use function::Function;
use host::{Host, Phase};

/// The root context of a VM that has one.
pub const ROOT: i32 = 1;
/// The module's words for: not yet; and of a body: keep it, and slow its sender down.
const PAUSE: i32 = 1;
const WATERMARK: i32 = 2;
/// Far above what any callback takes. One that needs more does not end.
const FUEL_MAX: u64 = 4_000_000_000;

/// A compiled module, to be started any number of times.
pub struct Program {
    engine: Engine,
    module: Module,
    linker: Linker<Host>,
}

impl Program {
    /// Compiles a module.
    pub fn load(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut config = Config::default();
        // Eager: a callback's fuel must not depend on whether a function ran before.
        config
            .consume_fuel(true)
            .compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, &bytes).map_err(|error| anyhow!("{error}"))?;
        let mut linker = Linker::new(&engine);
        for import in module.imports() {
            let ExternType::Func(signature) = import.ty() else {
                continue;
            };
            let name = import.name().to_owned();
            let function = Function::named(&name);
            linker.func_new(
                import.module(),
                import.name(),
                signature.clone(),
                move |mut caller, arguments, results| {
                    // The SDK imports more than is ever called.
                    let function = function.context("this host does not know it");
                    let status = function
                        .and_then(|function| answer::answer(&mut caller, function, arguments))
                        .map_err(|error| wasmi::Error::new(format!("{name}: {error:#}")))?;
                    if let Some(result) = results.first_mut() {
                        *result = Val::I32(status.cast_signed());
                    }
                    Ok(())
                },
            )?;
        }
        Ok(Program {
            engine,
            module,
            linker,
        })
    }

    /// A VM without any context.
    pub fn start(&self, host: Host) -> Result<Vm> {
        let mut store = Store::new(&self.engine, host);
        store.set_fuel(FUEL_MAX)?;
        let instance = self
            .linker
            .instantiate_and_start(&mut store, &self.module)?;
        let mut vm = Vm {
            store,
            instance,
            fuel: 0,
        };
        vm.call("_initialize", Phase::Start, &[])?;
        Ok(vm)
    }

    /// A VM with a configured root.
    pub fn configured(&self, configuration: &str) -> Result<Vm> {
        let mut vm = self.start(Host::default())?;
        vm.create_root(ROOT)?;
        let taken = vm.configure(ROOT, configuration.as_bytes())?;
        ensure!(taken, "the configuration was refused: {:?}", vm.host().log);
        Ok(vm)
    }
}

/// A module in its VM. An error of its methods is a trap.
pub struct Vm {
    store: Store<Host>,
    instance: Instance,
    fuel: u64,
}

impl Vm {
    /// What its host knows.
    pub fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    /// Linear memory, bytes.
    pub fn memory(&self) -> Result<u64> {
        let memory = self.instance.get_memory(&self.store, "memory");
        Ok(memory
            .context("the module exports no memory")?
            .data_size(&self.store) as u64)
    }

    /// What the last callback took: instructions of the interpreter, the same on every machine.
    pub fn fuel(&self) -> u64 {
        self.fuel
    }

    /// A new root context.
    pub fn create_root(&mut self, root: i32) -> Result<()> {
        self.call("proxy_on_context_create", Phase::Start, &[root, 0])?;
        self.call("proxy_on_vm_start", Phase::Start, &[root, 0])?;
        Ok(())
    }

    /// Hands a configuration to a root; whether it was taken.
    pub fn configure(&mut self, root: i32, configuration: &[u8]) -> Result<bool> {
        self.host().configuration = configuration.to_vec();
        let size = i32::try_from(configuration.len())?;
        let taken = self.call("proxy_on_configure", Phase::Configure, &[root, size])?;
        Ok(taken == Some(1))
    }

    /// A root's tick.
    pub fn tick(&mut self, root: i32) -> Result<()> {
        self.call("proxy_on_tick", Phase::Tick, &[root])?;
        Ok(())
    }

    /// The answer to a root's post: none of the headers means that it was cut off.
    pub fn post_answered(
        &mut self,
        root: i32,
        token: u32,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<()> {
        let host = self.host();
        host.post_headers = host::map(headers);
        host.post_body = body.to_vec();
        let sizes = [headers.len(), body.len(), 0].map(i32::try_from);
        let [count, size, trailers] = sizes;
        let arguments = [root, token.cast_signed(), count?, size?, trailers?];
        let phase = Phase::PostAnswered {
            has_headers: !headers.is_empty(),
        };
        self.call("proxy_on_http_call_response", phase, &arguments)?;
        Ok(())
    }

    /// A new stream of a root.
    pub fn create_stream(&mut self, stream: i32, root: i32) -> Result<()> {
        self.call("proxy_on_context_create", Phase::Start, &[stream, root])?;
        Ok(())
    }

    /// A request's headers; whether it goes on.
    pub fn request_headers(&mut self, stream: i32, end_of_stream: bool) -> Result<bool> {
        self.host().local_answer = None;
        let count = i32::try_from(self.host().request_headers.len())?;
        let arguments = [stream, count, i32::from(end_of_stream)];
        let name = "proxy_on_request_headers";
        let goes_on = self.call(name, Phase::RequestHeaders, &arguments)? == Some(0);
        let host = self.host();
        match goes_on || host.local_answer.is_some() {
            true => host.held.remove(&stream),
            false => host.held.insert(stream),
        };
        Ok(goes_on)
    }

    /// A chunk of a request's body, of which the host says that it has this size; whether it goes on.
    pub fn request_body(&mut self, stream: i32, size: i32, end_of_stream: bool) -> Result<bool> {
        self.host().local_answer = None;
        let arguments = [stream, size, i32::from(end_of_stream)];
        let told = self.call("proxy_on_request_body", Phase::RequestBody, &arguments)?;
        self.released(stream, told, WATERMARK)
    }

    /// A chunk of a request's body; whether it goes on.
    pub fn send_body(&mut self, stream: i32, body: &[u8], end_of_stream: bool) -> Result<bool> {
        self.host().request_body = body.to_vec();
        self.request_body(stream, i32::try_from(body.len())?, end_of_stream)
    }

    /// A request's trailers; whether they go on.
    pub fn request_trailers(&mut self, stream: i32) -> Result<bool> {
        self.host().local_answer = None;
        let phase = Phase::RequestBody;
        let told = self.call("proxy_on_request_trailers", phase, &[stream, 1])?;
        self.released(stream, told, PAUSE)
    }

    fn released(&mut self, stream: i32, told: Option<i32>, pause: i32) -> Result<bool> {
        let goes_on = told.is_none_or(|told| told == 0);
        ensure!(
            goes_on || told == Some(pause),
            "paused with {told:?}, not {pause}"
        );
        if goes_on {
            self.host().held.remove(&stream);
        }
        Ok(goes_on)
    }

    /// A response's headers.
    pub fn response_headers(&mut self, stream: i32, end_of_stream: bool) -> Result<()> {
        let count = i32::try_from(self.host().response_headers.len())?;
        let arguments = [stream, count, i32::from(end_of_stream)];
        let name = "proxy_on_response_headers";
        self.call(name, Phase::ResponseHeaders, &arguments)?;
        Ok(())
    }

    /// A chunk of a response's body.
    pub fn response_body(&mut self, stream: i32, size: i32, end_of_stream: bool) -> Result<()> {
        let arguments = [stream, size, i32::from(end_of_stream)];
        self.call("proxy_on_response_body", Phase::ResponseBody, &arguments)?;
        Ok(())
    }

    /// The end of a stream or of a root.
    pub fn delete(&mut self, context: i32) -> Result<()> {
        for callback in ["proxy_on_done", "proxy_on_log", "proxy_on_delete"] {
            self.call(callback, Phase::Delete, &[context])?;
        }
        Ok(())
    }

    /// Calls what the module exports; a callback that it does not export is none that it wants.
    fn call(&mut self, name: &str, phase: Phase, arguments: &[i32]) -> Result<Option<i32>> {
        let Some(function) = self.instance.get_func(&self.store, name) else {
            return Ok(None);
        };
        let context = arguments.first().copied().unwrap_or(0);
        self.store.data_mut().enter(phase, context);
        self.store.set_fuel(FUEL_MAX)?;
        let arguments: Vec<Val> = arguments.iter().map(|a| Val::I32(*a)).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let ended = function.call(&mut self.store, &arguments, &mut results);
        self.fuel = FUEL_MAX.saturating_sub(self.store.get_fuel()?);
        ended.map_err(|error| {
            let log = self.store.data().log.iter().rev();
            let last: Vec<&String> = log.take(3).map(|(_, line)| line).collect();
            anyhow!("{name}: {error}, after it logged {last:?}")
        })?;
        Ok(results.first().and_then(Val::i32))
    }
}
