//! Tasks put together step by step.

use crate::{Input, Message, Params, Request, Route, Shape, Task};

impl Task {
    /// What the caller asked for, with the caller's sampling: the conversation, the prompt as it stands, or the body of
    /// an `invoke` as a user's message.
    pub fn of(request: &Request) -> Self {
        let task = match request.route {
            Route::Chat => Self::chat(request.messages.clone()),
            Route::Completion => Self::raw(request.prompt.clone()),
            Route::Invoke => Self::chat(vec![Message::user(request.question())]),
        };
        task.params(request.params.clone())
    }

    /// A conversation, rendered by the chat template of the adapter or the model.
    pub fn chat(messages: Vec<Message>) -> Self {
        Self::new(Input::Chat(messages))
    }

    /// Text to go on from, as it stands.
    pub fn raw(prompt: impl Into<String>) -> Self {
        Self::new(Input::Raw(prompt.into()))
    }

    fn new(input: Input) -> Self {
        Self { input, params: Params::unset(), shape: Shape::Free, adapter: None, hook: None }
    }

    /// With this sampling.
    pub fn params(self, params: Params) -> Self {
        Self { params, ..self }
    }

    /// With this many tokens at most.
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.params.max_tokens = Some(tokens);
        self
    }

    /// With one of the function's adapters by its name in the manifest; `base` is none of them.
    pub fn adapter(self, name: impl Into<String>) -> Self {
        Self { adapter: Some(name.into()), ..self }
    }

    /// Held to a JSON schema.
    pub fn json_schema(self, schema: impl Into<String>) -> Self {
        Self { shape: Shape::JsonSchema(schema.into()), ..self }
    }

    /// With the component's token hook, which begins with this context.
    pub fn hook(self, context: impl Into<String>) -> Self {
        Self { hook: Some(context.into()), ..self }
    }
}

impl Params {
    /// Nothing set: the function's or the model's defaults.
    pub fn unset() -> Self {
        Self {
            max_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            min_p: None,
            repetition_penalty: None,
            frequency_penalty: None,
            presence_penalty: None,
            seed: None,
            stop: Vec::new(),
            logit_bias: Vec::new(),
            top_logprobs: None,
        }
    }
}
