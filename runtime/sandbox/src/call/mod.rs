//! One call: a fresh store and instance under all limits at once, run until it ends, is ended or is dropped.

mod http;
mod log;
mod meter;
mod room;

pub(crate) use log::Log;
pub(crate) use meter::{copied, enter};
pub(crate) use room::Room;

use crate::convert;
use crate::end::{CallEnd, CallUsage, End};
use crate::engine::TICK;
use crate::function::{Entry, Function, HandleParams, HandleResults, Module, Rules};
use crate::imports::outgoing::Outgoing;
use crate::request::{Request, Route};
use crate::sandbox::Inner;
use crate::services::{Failure, Reply, Services};
use crate::ticker::Living;
use crate::wasi::Wasi;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::ResourceTable;
use wasmtime::{AsContextMut, Store, StoreContextMut, Trap, UpdateDeadline};

/// What a call's store holds. It goes with the store: nothing of it outlives the call.
pub(crate) struct Call {
    pub(crate) sandbox: Arc<Inner>,
    pub(crate) module: Arc<Module>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) services: Arc<dyn Services>,
    /// `None` once a component of `wasi:http` answers through it.
    pub(crate) reply: Option<Box<dyn Reply>>,
    pub(crate) route: Route,
    pub(crate) log: Arc<Log>,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: Wasi,
    pub(crate) outgoing: Outgoing,
    pub(crate) room: Room,
    pub(crate) usage: CallUsage,
    /// Fuel for host calls of WASI, which cannot reach the store's fuel: taken at the next tick or own host call.
    pub(crate) debt: u64,
    /// Generations alive.
    pub(crate) generations: usize,
    /// The reply was started.
    pub(crate) started: bool,
    /// The caller has gone.
    pub(crate) closed: bool,
    progress: Arc<Progress>,
    _living: Living,
    /// When the call must be over.
    deadline: Instant,
    /// How long that is from its start.
    wall: Duration,
}

/// How much later than its deadline a call is given up that nothing else has ended.
const GRACE: Duration = Duration::from_millis(5);

/// Runs a call to its end.
pub(crate) async fn run(
    function: &Function,
    request: Request,
    services: Arc<dyn Services>,
    reply: Box<dyn Reply>,
) -> CallEnd {
    let wall = function.rules.limits.wall.min(Duration::from_millis(request.deadline_ms.into()));
    let deadline = Instant::now() + wall;
    let place = match place(&function.sandbox, deadline).await {
        Ok(place) => place,
        Err(end) => return CallEnd { result: Err(end), usage: CallUsage::default() },
    };
    let progress = Arc::new(Progress::default());
    let store = store(function, request.route, (services, reply), progress.clone(), (deadline, wall));
    let (lanes, share) = (&function.sandbox.lanes, &function.rules.share);
    let body = body(store, function.clone(), request, (deadline, wall), place);
    let (end, cpu_ns) = lanes.run(body, share, deadline + GRACE).await;
    let mut end = end.unwrap_or_else(|| given_up(&progress, wall));
    end.usage.cpu_ns = cpu_ns;
    end
}

/// What a call does, wherever it runs: it owns all it needs.
async fn body(
    mut store: Store<Call>,
    function: Function,
    request: Request,
    (deadline, wall): (Instant, Duration),
    _place: OwnedSemaphorePermit,
) -> CallEnd {
    let result = meter::until(deadline, enter_guest(&mut store, &function, request)).await;
    let result = result.unwrap_or(Err(End::Deadline { limit: wall }));
    CallEnd { result, usage: usage(&mut store.as_context_mut()) }
}

/// The end of a call in the background that got no time to end itself.
fn given_up(progress: &Progress, wall: Duration) -> CallEnd {
    let usage = progress.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    CallEnd { result: Err(End::Deadline { limit: wall }), usage }
}

/// What a call has used so far, noted at every tick of the epoch.
#[derive(Default)]
struct Progress(Mutex<CallUsage>);

/// A place among the calls that may run at once, waiting a little for one.
async fn place(sandbox: &Inner, deadline: Instant) -> Result<OwnedSemaphorePermit, End> {
    if let Ok(place) = sandbox.places.clone().try_acquire_owned() {
        return Ok(place);
    }
    let patience = sandbox.options.instance_wait.min(deadline.saturating_duration_since(Instant::now()));
    match tokio::time::timeout(patience, sandbox.places.clone().acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(End::Busy),
    }
}

fn store(
    function: &Function,
    route: Route,
    (services, reply): (Arc<dyn Services>, Box<dyn Reply>),
    progress: Arc<Progress>,
    (deadline, wall): (Instant, Duration),
) -> Store<Call> {
    let (sandbox, rules) = (&function.sandbox, &function.rules);
    let log = Arc::new(Log::new(services.clone(), rules.limits.log_bytes));
    let call = Call {
        _living: sandbox.ticker.guest(),
        sandbox: sandbox.clone(),
        module: function.module.clone(),
        rules: rules.clone(),
        wasi: Wasi::new(log.clone(), &rules.grants),
        outgoing: Outgoing::new(sandbox.clone(), rules.clone()),
        services,
        reply: Some(reply),
        route,
        log,
        table: ResourceTable::new(),
        room: Room::new(&rules.limits),
        usage: CallUsage::default(),
        debt: 0,
        generations: 0,
        started: false,
        closed: false,
        progress,
        deadline,
        wall,
    };
    let mut store = Store::new(&sandbox.engine, call);
    store.limiter(|call| &mut call.room);
    store.set_fuel(rules.limits.fuel).expect("fuel is on");
    store.fuel_async_yield_interval(Some(sandbox.options.slice_fuel.max(1))).expect("fuel is on");
    store.set_hostcall_fuel(rules.limits.memory_bytes);
    store.epoch_deadline_callback(on_tick);
    store.set_epoch_deadline(1);
    store
}

/// Looks at a running guest once in a while: its time, and what its WASI calls cost.
fn on_tick(mut store: StoreContextMut<'_, Call>) -> wasmtime::Result<UpdateDeadline> {
    let call = store.data_mut();
    if Instant::now() >= call.deadline {
        return Err(End::Deadline { limit: call.wall }.into());
    }
    meter::settle(&mut store)?;
    let used = usage(&mut store);
    *store.data().progress.0.lock().unwrap_or_else(PoisonError::into_inner) = used;
    Ok(UpdateDeadline::Yield(1))
}

async fn enter_guest(store: &mut Store<Call>, function: &Function, request: Request) -> Result<(), End> {
    let done = match &function.module.entry {
        Entry::Handler(..) => handle(store, function, request).await,
        Entry::Http(proxy) => http::handle(store, proxy, request).await,
    };
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) if store.data().closed && failure.code == "closed" => Err(End::Closed),
        Ok(Err(failure)) => Err(End::Failed(failure)),
        Err(error) => Err(end(&error, store.data())),
    }
}

async fn handle(
    store: &mut Store<Call>,
    function: &Function,
    request: Request,
) -> wasmtime::Result<Result<(), Failure>> {
    let Entry::Handler(pre, handle) = &function.module.entry else { unreachable!("the caller matched") };
    let instance = pre.instantiate_async(&mut *store).await.map_err(instantiating)?;
    let (request, bytes) = convert::request(request);
    meter::spend(store.into(), function.sandbox.options.charges.byte.saturating_mul(bytes as u64))?;
    let handle = instance.get_typed_func::<HandleParams, HandleResults>(&mut *store, handle)?;
    let (result,) = handle.call_async(&mut *store, (request,)).await?;
    Ok(result.map_err(convert::failure))
}

/// An error of instantiation that is no trap and no limit of ours is one of the component's make.
pub(crate) fn instantiating(error: wasmtime::Error) -> wasmtime::Error {
    let ours = error.is::<End>() || error.is::<Trap>() || error.is::<wasmtime::PoolConcurrencyLimitError>();
    if ours { error } else { End::Instantiate { what: format!("{error:#}") }.into() }
}

/// What an error of the engine means.
fn end(error: &wasmtime::Error, call: &Call) -> End {
    if let Some(end) = error.downcast_ref::<End>() {
        return end.clone();
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return End::Busy;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => End::OutOfFuel { limit: call.rules.limits.fuel },
        Some(Trap::Interrupt) => End::Deadline { limit: call.wall },
        Some(Trap::StackOverflow) => End::Stack,
        Some(trap) => End::Trap { what: trap.to_string() },
        None => End::Trap { what: format!("{:#}", error.root_cause()) },
    }
}

fn usage(store: &mut StoreContextMut<'_, Call>) -> CallUsage {
    let left = store.get_fuel().expect("fuel is on");
    let call = store.data_mut();
    let fuel = call.rules.limits.fuel;
    CallUsage {
        fuel: fuel.saturating_sub(left).saturating_add(call.debt).min(fuel),
        memory_bytes_max: call.room.bytes_max(),
        log_bytes: call.log.written(),
        http_calls: call.outgoing.calls(),
        ..call.usage.clone()
    }
}

const _: () = assert!(
    TICK.as_millis() + GRACE.as_millis() < 10,
    "a call ends within its deadline and ten milliseconds"
);
