//! A component in the sandbox as a function's [`Code`], and what a manifest's settings mean to the sandbox.

use super::code::{Code, CodeEnd, CodeFault, CodeRequest, Route};
use crate::records::Settings;
use coldframe_sandbox::services::{Later, Reply, Services};
use coldframe_sandbox::{Allowed, CallEnd, Error, Function, Grants, Limits, Request};
use std::sync::Arc;
use std::time::Duration;

/// A loaded component.
pub struct ComponentCode(pub Function);

impl Code for ComponentCode {
    fn handle(
        &self,
        request: CodeRequest,
        services: Arc<dyn Services>,
        reply: Box<dyn Reply>,
    ) -> Later<'_, CodeEnd> {
        Box::pin(async move { ended(self.0.call(asked(request), services, reply).await) })
    }

    fn bytes(&self) -> u64 {
        self.0.code_bytes() as u64
    }
}

fn asked(request: CodeRequest) -> Request {
    Request {
        id: request.id,
        route: match request.route {
            Route::Chat => coldframe_sandbox::Route::Chat,
            Route::Completion => coldframe_sandbox::Route::Completion,
            Route::Invoke => coldframe_sandbox::Route::Invoke,
        },
        messages: request.messages,
        prompt: request.prompt,
        body: request.body.to_vec(),
        method: request.method,
        path: request.path,
        headers: request.headers,
        params: request.params,
        deadline_ms: u32::try_from(request.deadline.as_millis()).unwrap_or(u32::MAX),
    }
}

fn ended(end: CallEnd) -> CodeEnd {
    let fault = end.result.err().map(|end| match &end {
        // The function's own words, not ours around them.
        coldframe_sandbox::End::Failed(failure) => {
            CodeFault { code: failure.code.clone(), message: failure.message.clone(), retry: false }
        }
        end => CodeFault { code: end.code().to_owned(), message: end.to_string(), retry: end.is_retryable() },
    });
    CodeEnd {
        fault,
        cpu_ns: end.usage.cpu_ns,
        fuel: end.usage.fuel,
        memory_bytes: end.usage.memory_bytes_max as u64,
    }
}

/// What a call of a function with these settings may use; what they leave open is the sandbox's default.
pub fn limits(settings: &Settings) -> Limits {
    let usual = Limits::default();
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Limits {
        memory_bytes: settings.memory_limit_mb.map_or(usual.memory_bytes, |mib| size(u64::from(mib) << 20)),
        fuel: settings.fuel.unwrap_or(usual.fuel),
        wall: settings.timeout_ms.map_or(usual.wall, Duration::from_millis),
        tokens: settings.token_budget.map_or(usual.tokens, |most| u32::try_from(most).unwrap_or(u32::MAX)),
        generations: settings.max_generations.map_or(usual.generations, |most| size(most.into())),
        output_bytes: settings.output_bytes.unwrap_or(usual.output_bytes),
        log_bytes: settings.log_bytes.unwrap_or(usual.log_bytes),
        ..usual
    }
}

/// What the code of a function with these settings may reach.
///
/// # Errors
/// [`Error::Pattern`] for a host that cannot be read.
pub fn grants(settings: &Settings) -> Result<Grants, Error> {
    let has = |word: &str| settings.capabilities.iter().any(|capability| capability == word);
    Ok(Grants {
        state: has("state"),
        clock: has("clock"),
        random: has("random"),
        outbound: Allowed::parse(&settings.allowed_outbound_hosts)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{grants, limits};
    use crate::records::Settings;
    use coldframe_sandbox::Limits;
    use std::time::Duration;

    #[test]
    fn what_settings_say_is_what_the_sandbox_gets() {
        assert_eq!(limits(&Settings::default()), Limits::default());
        let settings = Settings {
            memory_limit_mb: Some(3),
            timeout_ms: Some(5),
            token_budget: Some(u64::MAX),
            capabilities: vec!["state".to_owned()],
            allowed_outbound_hosts: vec!["https://a.example".to_owned()],
            ..Settings::default()
        };
        let limits = limits(&settings);
        assert_eq!((limits.memory_bytes, limits.wall), (3 << 20, Duration::from_millis(5)));
        assert_eq!(limits.tokens, u32::MAX);
        let grants = grants(&settings).expect("grants");
        assert!(grants.state && !grants.clock && !grants.random && !grants.outbound.is_empty());
        let wrong = Settings { allowed_outbound_hosts: vec!["nonsense".to_owned()], ..settings };
        assert!(super::grants(&wrong).is_err());
    }
}
