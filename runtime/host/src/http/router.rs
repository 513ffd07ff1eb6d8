//! One table of routes: for dispatch, for access, for metrics labels, for OpenAPI, for the tests of tenancy.
//!
//! A route cannot be made without saying who may use it. Patterns are made of literal segments, `{name}` for one
//! segment and, last, `{*rest}` for what is left as it stands. Names in paths keep to the alphabet of ids, so that no
//! encoding smuggles a separator through.

use super::ask::Ask;
use super::body::Reply;
use super::openapi::Describe;
use super::problem::{Dialect, Problem, Result};
use crate::call::Later;
use crate::records::Scope;
use http::{Method, StatusCode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without a key.
    Public,
    /// Keys that may call functions of their tenant.
    Invoke,
    /// Keys that may change functions of their tenant.
    Admin,
    /// Keys of the operator.
    Operator,
}

impl Access {
    /// The scope a key must have; `None` needs no key.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::Public => None,
            Self::Invoke => Some(Scope::Invoke),
            Self::Admin => Some(Scope::Admin),
            Self::Operator => Some(Scope::Operator),
        }
    }
}

/// What answers a route.
pub type Handler = Arc<dyn Fn(Ask) -> Later<'static, Result<Reply>> + Send + Sync>;

/// A route.
#[derive(Clone)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its pattern.
    pub pattern: &'static str,
    /// Who may use it.
    pub access: Access,
    /// How its errors look.
    pub dialect: Dialect,
    /// What answers.
    pub handler: Handler,
    /// What it is for, in the API's description.
    pub describe: Describe,
}

impl Route {
    /// A route.
    pub fn new<F, L>(
        method: Method,
        pattern: &'static str,
        access: Access,
        handler: F,
        describe: Describe,
    ) -> Self
    where
        F: Fn(Ask) -> L + Send + Sync + 'static,
        L: Future<Output = Result<Reply>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |ask| Box::pin(handler(ask)));
        Self { method, pattern, access, dialect: Dialect::OpenAi, handler, describe }
    }

    /// With LoRAX's errors.
    #[must_use]
    pub fn lorax(mut self) -> Self {
        self.dialect = Dialect::Lorax;
        self
    }
}

/// Values of a pattern's names, in its order.
pub type Values = Vec<String>;

/// What a path leads to.
pub enum Found<'a> {
    /// A route.
    Route(&'a Route, Values),
    /// The path is there, the method is not; these are.
    OtherMethods(&'static str, Vec<Method>),
    /// Nothing.
    Nothing,
}

/// All routes.
pub struct Router {
    routes: Vec<Route>,
    /// Places of routes without names, by path.
    literal: BTreeMap<&'static str, Vec<usize>>,
    /// Places of routes with names.
    named: Vec<usize>,
}

impl Router {
    /// A router.
    ///
    /// # Panics
    /// When two routes have one method and pattern.
    pub fn new(routes: Vec<Route>) -> Self {
        let (mut literal, mut named) = (BTreeMap::<_, Vec<usize>>::new(), Vec::new());
        for (place, route) in routes.iter().enumerate() {
            let twin = routes[..place].iter().any(|r| r.pattern == route.pattern && r.method == route.method);
            assert!(!twin, "two routes for {} {}", route.method, route.pattern);
            match route.pattern.contains('{') {
                true => named.push(place),
                false => literal.entry(route.pattern).or_default().push(place),
            }
        }
        Self { routes, literal, named }
    }

    /// Every route, in the order of the table.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Finds the route of a method and a path as it came.
    ///
    /// # Errors
    /// 400 `invalid_path` for a name that is not one.
    pub fn find(&self, method: &Method, path: &str) -> Result<Found<'_>> {
        let wanted = if *method == Method::HEAD { &Method::GET } else { method };
        let literal = self.literal.get(path).into_iter().flatten().map(|&place| (place, Ok(Values::new())));
        let named = self.named.iter().filter_map(|&place| {
            let values = capture(self.routes[place].pattern, path)?;
            Some((place, values))
        });
        let mut others: Option<(&'static str, Vec<Method>)> = None;
        for (place, values) in literal.chain(named) {
            let route = &self.routes[place];
            if route.method == *wanted {
                return Ok(Found::Route(route, values?));
            }
            others.get_or_insert((route.pattern, Vec::new())).1.push(route.method.clone());
        }
        Ok(others.map_or(Found::Nothing, |(pattern, methods)| Found::OtherMethods(pattern, methods)))
    }
}

/// The methods of a path as `Allow` lists them.
pub fn allow(methods: &[Method]) -> String {
    let mut names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// Values of a pattern's names in a path; `None` where it does not match, an error where a name is none.
fn capture(pattern: &str, path: &str) -> Option<Result<Values>> {
    let (mut values, mut wrong) = (Values::new(), None);
    let mut rest = path.strip_prefix('/')?;
    let mut segments = pattern.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.starts_with("{*") {
            values.push(rest.to_owned());
            return Some(wrong.map_or(Ok(values), Err));
        }
        let (here, after) = match rest.split_once('/') {
            Some((here, after)) => (here, Some(after)),
            None => (rest, None),
        };
        if segment.starts_with('{') {
            if here.is_empty() {
                return None;
            }
            match name(here) {
                Ok(value) => values.push(value),
                Err(problem) => wrong = wrong.or(Some(problem)),
            }
        } else if segment != here {
            return None;
        }
        match (segments.peek(), after) {
            (None, None) => return Some(wrong.map_or(Ok(values), Err)),
            (Some(_), Some(after)) => rest = after,
            _ => return None,
        }
    }
    None
}

/// Longest name in a path, bytes: mistral.rs's bound of an adapter's name.
const NAME_BYTES_MAX: usize = 256;

/// A name in a path: decoded once, then held against the alphabet of ids.
///
/// # Errors
/// 400 `invalid_path`.
pub fn name(segment: &str) -> Result<String> {
    decode(segment).filter(|name| is_name(name)).ok_or_else(|| {
        let message =
            "a name in the path may hold letters, digits and . _ - @ : only, and at most 256 of them";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_path", message)
    })
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte);
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !matches!(name, "." | "..")
        && name.bytes().all(allowed)
}

/// Percent-decodes once. `None` for a broken escape or bytes that are no text.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Pairs of a query string, `+` as a space.
///
/// # Errors
/// 400 `invalid_query` for a broken escape.
pub fn query(query: Option<&str>) -> Result<Vec<(String, String)>> {
    let pairs = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let decoded = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(&key.replace('+', " "))?, decode(&value.replace('+', " "))?))
    });
    decoded.collect::<Option<_>>().ok_or_else(|| {
        let message = "the query is not well-formed: percent-encode UTF-8";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_query", message)
    })
}
