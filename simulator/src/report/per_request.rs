//! Rows per request, as a run writes them.

/// One request's row.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "placeholder until the writer lands")]
pub struct RequestRow {
    pub id: u64,
    pub function: u32,
    pub gpu: u32,
    pub arrival_ns: u64,
    pub first_scheduled_ns: u64,
    pub cold_kind: &'static str,
    pub queue_ns: u64,
    pub container_ns: u64,
    pub runtime_ns: u64,
    pub backbone_ns: u64,
    pub adapter_ns: u64,
    pub kernel_ns: u64,
    pub prefill_ns: u64,
    pub ttft_ns: u64,
    pub tpot_ns: u64,
    pub e2e_ns: u64,
    pub prompt_tokens: u32,
    pub output_tokens: u32,
    pub preemptions: u32,
    pub slo_ttft: bool,
    pub slo_tpot: bool,
    pub outcome: &'static str,
}
/// Takes rows.
pub trait RowSink {
    /// One row.
    fn row(&mut self, row: &RequestRow) -> std::io::Result<()>;
    /// End.
    fn finish(self: Box<Self>) -> std::io::Result<()>;
}
