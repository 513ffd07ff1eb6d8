//! `coldframe:function/model`: generations, several at once, and the tokenizer.

use super::generation::{self, Generation};
use super::interface;
use crate::bindings::{model, types};
use crate::call::{Call, copied, enter};
use crate::convert;
use crate::end::End;
use crate::hook::HookCall;
use crate::services::{Event, Failure, TokenHook};
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};

type Store<'a> = StoreContextMut<'a, Call>;
type Next = Result<Option<model::Event>, types::Failure>;
type Finish = Result<(String, model::End), types::Failure>;

pub(super) fn link(linker: &mut Linker<Call>) -> Result<()> {
    let mut model = linker.instance(&interface("model"))?;
    model.resource("generation", ResourceType::host::<Generation>(), |store, handle| {
        drop_generation(store, handle)
    })?;
    model.func_wrap_async("[constructor]generation", |store, (task,)| Box::new(start(store, task)))?;
    model.func_wrap_async("[method]generation.next", |store, (handle,)| Box::new(next(store, handle)))?;
    model.func_wrap_async("[method]generation.finish", |store, (handle,)| Box::new(finish(store, handle)))?;
    model.func_wrap("[method]generation.cancel", cancel)?;
    model.func_wrap_async("wait-any", |store, (handles,)| Box::new(wait_any(store, handles)))?;
    model.func_wrap("tokenize", tokenize)?;
    model.func_wrap("detokenize", detokenize)?;
    model.func_wrap("adapters", adapters)
}

async fn start(mut store: Store<'_>, task: model::Task) -> Result<(Resource<Generation>,)> {
    enter(&mut store, convert::task_bytes(&task))?;
    let call = store.data_mut();
    let limits = &call.rules.limits;
    if call.generations >= limits.generations {
        return Err(End::Generations { limit: limits.generations }.into());
    }
    let tokens = limits.tokens.saturating_sub(call.usage.tokens);
    if tokens == 0 {
        return Err(End::Tokens { limit: limits.tokens }.into());
    }
    call.usage.generations += 1;
    let generation = begin(call, task, tokens).await;
    call.generations += usize::from(generation.is_alive());
    Ok((call.table.push(generation)?,))
}

/// Starts the hook and then the generation. What fails is told by the generation's first `next`.
async fn begin(call: &mut Call, task: model::Task, tokens: u32) -> Generation {
    let hook = match &task.hook {
        Some(context) => match hook(call, context.clone()).await {
            Ok(hook) => Some(hook),
            Err(failure) => return Generation::new(Err(failure)),
        },
        None => None,
    };
    let task = convert::task(task, hook, tokens);
    Generation::new(call.services.generate(task).await)
}

/// A hook starts on a thread that may block, since a large toolchain's takes milliseconds to begin.
fn hook(
    call: &Call,
    context: String,
) -> impl Future<Output = Result<Box<dyn TokenHook>, Failure>> + Send + use<> {
    let (sandbox, module, rules) = (call.sandbox.clone(), call.module.clone(), call.rules.clone());
    let log = HookCall::shared(call.log.clone());
    let begin = move || match &module.hook {
        Some(hook) => hook.begin(&sandbox, &rules, &context, log),
        None => {
            Err(Failure::new("no_hook", "the component exports no token-hook; leave `hook` out of the task"))
        }
    };
    let begun = tokio::task::spawn_blocking(begin);
    async move { begun.await.unwrap_or_else(|error| Err(Failure::new("hook_failed", error.to_string()))) }
}

fn drop_generation(mut store: Store<'_>, handle: u32) -> Result<()> {
    let call = store.data_mut();
    let generation = call.table.delete(Resource::<Generation>::new_own(handle))?;
    call.generations -= usize::from(generation.is_alive());
    Ok(())
}

async fn next(mut store: Store<'_>, handle: Resource<Generation>) -> Result<(Next,)> {
    enter(&mut store, 0)?;
    let next = advance(store.data_mut(), &handle).await?;
    copied(&mut store, next.as_ref().ok().and_then(Option::as_ref).map_or(0, convert::event_bytes))?;
    Ok((next.map(|event| event.map(convert::event)).map_err(convert::failure_out),))
}

/// Takes the next thing of a generation and keeps the books of tokens and of those alive.
async fn advance(call: &mut Call, handle: &Resource<Generation>) -> Result<Result<Option<Event>, Failure>> {
    let generation = call.table.get_mut(handle)?;
    let was_alive = generation.is_alive();
    let next = generation.next().await;
    call.generations -= usize::from(was_alive && !generation.is_alive());
    let tokens = match &next {
        Ok(Some(Event::Token(_))) => 1,
        // Tokens whose text never came out alone.
        Ok(Some(Event::End { completion_tokens, .. })) => completion_tokens.saturating_sub(generation.tokens),
        _ => 0,
    };
    generation.tokens = generation.tokens.saturating_add(tokens);
    call.usage.tokens = call.usage.tokens.saturating_add(tokens);
    let limit = call.rules.limits.tokens;
    if call.usage.tokens > limit {
        call.usage.tokens = limit;
        return Err(End::Tokens { limit }.into());
    }
    Ok(next)
}

async fn finish(mut store: Store<'_>, handle: Resource<Generation>) -> Result<(Finish,)> {
    enter(&mut store, 0)?;
    let mut text = String::new();
    loop {
        match advance(store.data_mut(), &handle).await? {
            Ok(Some(Event::Token(token))) => {
                copied(&mut store, token.text.len())?;
                text.push_str(&token.text);
            }
            Ok(Some(Event::End { reason, text: rest, prompt_tokens, completion_tokens })) => {
                copied(&mut store, rest.len())?;
                text.push_str(&rest);
                let reason = convert::reason(reason);
                let end = model::End { reason, text: String::new(), prompt_tokens, completion_tokens };
                return Ok((Ok((text, end)),));
            }
            Ok(None) => {
                return Ok((Err(failure("over", "the generation is over; `finish` can be called once")),));
            }
            Err(failure) => return Ok((Err(convert::failure_out(failure)),)),
        }
    }
}

fn cancel(mut store: Store<'_>, (handle,): (Resource<Generation>,)) -> Result<()> {
    enter(&mut store, 0)?;
    store.data_mut().table.get_mut(&handle)?.cancel();
    Ok(())
}

async fn wait_any(
    mut store: Store<'_>,
    handles: Vec<Resource<Generation>>,
) -> Result<(Result<u32, types::Failure>,)> {
    enter(&mut store, handles.len() * size_of::<u32>())?;
    let table = &mut store.data_mut().table;
    let over = || Generation::new(Err(Failure::new("twice", "a generation stood twice in the list")));
    let mut places: Vec<u32> = handles.iter().map(Resource::rep).collect();
    places.sort_unstable();
    places.dedup();
    if handles.is_empty() || places.len() < handles.len() {
        return Ok((Err(failure("invalid", "wait-any takes at least one generation, and each once")),));
    }
    let mut taken = Vec::with_capacity(handles.len());
    for handle in &handles {
        taken.push(std::mem::replace(table.get_mut(handle)?, over()));
    }
    let place = generation::wait_any(&mut taken).await;
    for (handle, generation) in handles.iter().zip(taken) {
        *store.data_mut().table.get_mut(handle)? = generation;
    }
    Ok((Ok(u32::try_from(place).expect("a list of handles is short")),))
}

fn tokenize(mut store: Store<'_>, (text,): (String,)) -> Result<(Result<Vec<u32>, types::Failure>,)> {
    enter(&mut store, text.len())?;
    let tokens = store.data().services.tokenize(&text);
    copied(&mut store, tokens.as_ref().map_or(0, |tokens| size_of_val(tokens.as_slice())))?;
    Ok((tokens.map_err(convert::failure_out),))
}

fn detokenize(mut store: Store<'_>, (tokens,): (Vec<u32>,)) -> Result<(Result<String, types::Failure>,)> {
    enter(&mut store, size_of_val(tokens.as_slice()))?;
    let text = store.data().services.detokenize(&tokens);
    copied(&mut store, text.as_ref().map_or(0, String::len))?;
    Ok((text.map_err(convert::failure_out),))
}

fn adapters(mut store: Store<'_>, (): ()) -> Result<(Vec<String>,)> {
    enter(&mut store, 0)?;
    let names = store.data().services.adapters();
    copied(&mut store, names.iter().map(String::len).sum())?;
    Ok((names,))
}

fn failure(code: &str, message: &str) -> types::Failure {
    types::Failure { code: code.to_owned(), message: message.to_owned() }
}
