//! Between the types of the interface and those of [`crate::services`]. Nothing is decided here.

use crate::bindings::{log, model, token_hook, types};
use crate::request::{Request, Route};
use crate::services::{
    Event, Failure, Input, Level, Message, Params, Reason, Shape, Task, TokenHook, Verdict,
};

/// A request and about how many bytes it copies.
pub(crate) fn request(request: Request) -> (types::Request, usize) {
    let messages: usize =
        request.messages.iter().map(|message| message.role.len() + message.content.len()).sum();
    let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = messages + headers + request.prompt.len() + request.body.len() + request.path.len();
    let request = types::Request {
        id: request.id,
        route: match request.route {
            Route::Chat => types::Route::Chat,
            Route::Completion => types::Route::Completion,
            Route::Invoke => types::Route::Invoke,
        },
        messages: request.messages.into_iter().map(message_out).collect(),
        prompt: request.prompt,
        body: request.body,
        method: request.method,
        path: request.path,
        headers: request.headers.into_iter().map(|(name, value)| types::Field { name, value }).collect(),
        params: params_out(request.params),
        deadline_ms: request.deadline_ms,
    };
    (request, bytes)
}

fn message_out(message: Message) -> types::Message {
    types::Message { role: message.role, content: message.content }
}

fn params_out(params: Params) -> types::Params {
    types::Params {
        max_tokens: params.max_tokens,
        temperature: params.temperature,
        top_p: params.top_p,
        top_k: params.top_k,
        min_p: params.min_p,
        repetition_penalty: params.repetition_penalty,
        frequency_penalty: params.frequency_penalty,
        presence_penalty: params.presence_penalty,
        seed: params.seed,
        stop: params.stop,
        logit_bias: params.logit_bias,
        top_logprobs: params.top_logprobs,
    }
}

fn params_in(params: types::Params) -> Params {
    Params {
        max_tokens: params.max_tokens,
        temperature: params.temperature,
        top_p: params.top_p,
        top_k: params.top_k,
        min_p: params.min_p,
        repetition_penalty: params.repetition_penalty,
        frequency_penalty: params.frequency_penalty,
        presence_penalty: params.presence_penalty,
        seed: params.seed,
        stop: params.stop,
        logit_bias: params.logit_bias,
        top_logprobs: params.top_logprobs,
    }
}

/// Bytes of a task that are copied out of the guest.
pub(crate) fn task_bytes(task: &model::Task) -> usize {
    let input = match &task.input {
        model::Input::Chat(messages) => {
            messages.iter().map(|message| message.role.len() + message.content.len()).sum()
        }
        model::Input::Raw(text) => text.len(),
    };
    let shape = if let model::Shape::JsonSchema(schema) = &task.shape { schema.len() } else { 0 };
    let stop: usize = task.params.stop.iter().map(String::len).sum();
    let bias = size_of_val(task.params.logit_bias.as_slice());
    input + shape + stop + bias + task.hook.as_ref().map_or(0, String::len)
}

/// A task with at most so many tokens.
pub(crate) fn task(task: model::Task, hook: Option<Box<dyn TokenHook>>, tokens: u32) -> Task {
    let message = |message: types::Message| Message { role: message.role, content: message.content };
    Task {
        input: match task.input {
            model::Input::Chat(messages) => Input::Chat(messages.into_iter().map(message).collect()),
            model::Input::Raw(text) => Input::Raw(text),
        },
        params: params_in(task.params),
        shape: match task.shape {
            model::Shape::Free => Shape::Free,
            model::Shape::JsonObject => Shape::JsonObject,
            model::Shape::JsonSchema(schema) => Shape::JsonSchema(schema),
        },
        adapter: task.adapter,
        hook,
        budget: tokens,
    }
}

/// Bytes of an event that are copied into the guest.
pub(crate) fn event_bytes(event: &Event) -> usize {
    match event {
        Event::Token(token) => {
            token.text.len() + token.top.iter().map(|(_, text, _)| text.len() + 8).sum::<usize>()
        }
        Event::End { text, .. } => text.len(),
    }
}

pub(crate) fn event(event: Event) -> model::Event {
    match event {
        Event::Token(token) => {
            let likely = |(id, text, logprob)| model::Likely { id, text, logprob };
            let top = token.top.into_iter().map(likely).collect();
            model::Event::Token(model::Token { id: token.id, text: token.text, logprob: token.logprob, top })
        }
        Event::End { reason: why, text, prompt_tokens, completion_tokens } => {
            model::Event::End(model::End { reason: reason(why), text, prompt_tokens, completion_tokens })
        }
    }
}

pub(crate) fn reason(reason: Reason) -> model::Reason {
    match reason {
        Reason::Stop => model::Reason::Stop,
        Reason::Length => model::Reason::Length,
        Reason::Cancelled => model::Reason::Cancelled,
    }
}

pub(crate) fn failure(failure: types::Failure) -> Failure {
    Failure { code: failure.code, message: failure.message }
}

pub(crate) fn failure_out(failure: Failure) -> types::Failure {
    types::Failure { code: failure.code, message: failure.message }
}

pub(crate) fn level(level: log::Level) -> Level {
    match level {
        log::Level::Debug => Level::Debug,
        log::Level::Info => Level::Info,
        log::Level::Warn => Level::Warn,
        log::Level::Error => Level::Error,
    }
}

pub(crate) fn verdict(verdict: token_hook::Verdict) -> Verdict {
    match verdict {
        token_hook::Verdict::GoOn => Verdict::GoOn,
        token_hook::Verdict::Bias(bias) => Verdict::Bias(bias),
        token_hook::Verdict::Only(tokens) => Verdict::Only(tokens),
        token_hook::Verdict::Forbid(tokens) => Verdict::Forbid(tokens),
        token_hook::Verdict::End => Verdict::End,
    }
}
