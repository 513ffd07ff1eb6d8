//! A loaded function: its linked component, its limits and its grants.

use crate::bindings::{token_hook, types};
use crate::call::{self, Call};
use crate::check::{Checked, World};
use crate::end::CallEnd;
use crate::error::Error;
use crate::hook::{HookCall, HookPre};
use crate::lanes::Share;
use crate::limits::{Grants, Limits};
use crate::request::Request;
use crate::sandbox::Inner;
use crate::services::{Reply, Services};
use std::sync::Arc;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// A linked component, shared by every function made of it.
pub(crate) struct Module {
    pub(crate) checked: Checked,
    pub(crate) entry: Entry,
    pub(crate) hook: Option<HookPre>,
    code_bytes: usize,
}

/// Where a call goes in.
pub(crate) enum Entry {
    /// `handler.handle`.
    Handler(InstancePre<Call>, ComponentExportIndex),
    /// `wasi:http/incoming-handler`.
    Http(ProxyPre<Call>),
}

/// What `handler.handle` takes.
pub(crate) type HandleParams = (types::Request,);
/// What `handler.handle` gives.
pub(crate) type HandleResults = (Result<(), types::Failure>,);
/// What `token-hook.before-token` takes.
pub(crate) type BeforeParams<'a> = (Option<u32>, &'a str);
/// What `token-hook.before-token` gives.
pub(crate) type BeforeResults = (token_hook::Verdict,);

impl Module {
    pub(crate) fn link(sandbox: &Inner, component: &Component, checked: Checked) -> Result<Self, Error> {
        let refused = |error: wasmtime::Error| Error::Invalid(format!("{error:#}"));
        let pre = sandbox.linker.instantiate_pre(component).map_err(refused)?;
        let entry = match checked.world {
            World::Http => Entry::Http(ProxyPre::new(pre).map_err(refused)?),
            _ => Entry::Handler(pre, export(component, crate::check::HANDLER, "handle")?),
        };
        let hook = match checked.world {
            World::FunctionWithHook => Some(HookPre::link(sandbox, component)?),
            _ => None,
        };
        let image = component.image_range();
        Ok(Self { checked, entry, hook, code_bytes: image.end as usize - image.start as usize })
    }
}

/// The function `name` of the exported interface `interface`.
pub(crate) fn export(
    component: &Component,
    interface: &str,
    name: &str,
) -> Result<ComponentExportIndex, Error> {
    let missing = || Error::Invalid(format!("it does not export `{name}` of `{interface}`"));
    let interface = component.get_export_index(None, interface).ok_or_else(missing)?;
    component.get_export_index(Some(&interface), name).ok_or_else(missing)
}

/// A function that can be called. Cheap to clone; its code goes when the last clone of the last function of the component goes.
#[derive(Clone)]
pub struct Function {
    pub(crate) sandbox: Arc<Inner>,
    pub(crate) module: Arc<Module>,
    pub(crate) rules: Arc<Rules>,
}

/// What a function may do.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) grants: Grants,
    /// Of the callers' threads, all its calls together.
    pub(crate) share: Arc<Share>,
}

impl Function {
    pub(crate) fn new(sandbox: Arc<Inner>, module: Arc<Module>, limits: Limits, grants: Grants) -> Self {
        Self { sandbox, module, rules: Arc::new(Rules { limits, grants, share: Arc::default() }) }
    }

    /// What its component is.
    pub fn checked(&self) -> &Checked {
        &self.module.checked
    }

    /// What one call may use.
    pub fn limits(&self) -> &Limits {
        &self.rules.limits
    }

    /// What it may reach.
    pub fn grants(&self) -> &Grants {
        &self.rules.grants
    }

    /// Bytes of compiled code in memory, shared with other functions of the same component.
    pub fn code_bytes(&self) -> usize {
        self.module.code_bytes
    }

    /// The same component under other limits and grants; nothing is compiled.
    pub fn with(&self, limits: Limits, grants: Grants) -> Self {
        Self::new(self.sandbox.clone(), self.module.clone(), limits, grants)
    }

    /// Answers one request in a fresh instance, which is gone when this returns. Dropping this ends the call and its generations:
    /// at once, or at the end of its slice where the guest computes in the background. A component of `wasi:http` gets the
    /// request as an HTTP request.
    pub async fn call(
        &self,
        request: Request,
        services: Arc<dyn Services>,
        reply: Box<dyn Reply>,
    ) -> CallEnd {
        call::run(self, request, services, reply).await
    }

    /// Starts the token hook for one generation; `None` where the component has none. [`Services`] need not call this: the
    /// sandbox does, for tasks that ask for a hook.
    ///
    /// # Errors
    /// The hook trapped or ran over its budget while it began.
    pub fn hook(
        &self,
        context: &str,
        log: Arc<dyn Services>,
    ) -> Option<Result<Box<dyn crate::services::TokenHook>, crate::services::Failure>> {
        let hook = self.module.hook.as_ref()?;
        Some(hook.begin(&self.sandbox, &self.rules, context, HookCall::log(log)))
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Function")
            .field("checked", self.checked())
            .field("rules", &self.rules)
            .finish()
    }
}
