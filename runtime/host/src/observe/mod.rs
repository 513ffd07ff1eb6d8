//! How the server goes, for programs: metrics that Prometheus scrapes, traces for a collector, and what the dashboard
//! shows of the last requests.
//!
//! [`Metrics`] watches the edge, the ends of calls and loads, and looks at the machine when it is scraped. Names are those
//! of vLLM where gateways and dashboards read them, and begin with `coldframe_` where the thing is new. Labels come from
//! the registry and from closed lists, never from a request, and their number is capped. `docs/observability.md` lists all.

mod edge;
mod histogram;
mod machine;
mod metrics;
mod otlp;
mod process;
mod recent;
mod requests;
mod scene;
mod spans;
pub mod text;

pub use histogram::Histogram;
pub use metrics::Metrics;
pub use otlp::{TraceConfig, Tracer, document};
pub use recent::Recent;
pub use scene::{EngineScene, FunctionScene, Look, Scene};
pub use spans::{Halves, Root, Span, Value};
