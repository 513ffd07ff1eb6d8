//! GPU time by cause and device memory by use: exact integrals over what each device holds and does.
//!
//! A reserved nanosecond is busy, else loading, else idle; idle time is split by bytes at the end, so that the causes
//! add up to the reserved time exactly.

use crate::cost::{Lives, apportion};
use crate::measure::series::Series;
use crate::report::check::{CAUSES, MEMORY_USES};
use crate::report::model::{GpuTime, MemoryReport, MemoryUse};
use coldframe_policy::core::book::{Device, uses};

/// What a device held since its last change.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    reserved: bool,
    busy: bool,
    loading: bool,
    bytes: [u64; 7],
}

#[derive(Clone, Default)]
struct Gpu {
    since_ns: u64,
    held: Held,
    reserved_at: u64,
    reserved_ns: u64,
    busy_ns: u64,
    loading_ns: u64,
    idle_ns: u64,
    idle_byte_ns: [u128; 6],
    byte_ns: u128,
}

/// All devices of a run.
pub struct Account {
    gpus: Vec<Gpu>,
    fleet: [u64; 7],
    fleet_at: u64,
    by_use: [u128; 7],
    peak: [u64; 7],
    series: Series<7>,
    /// Reservations that ended, for tariffs that round each up.
    pub lives: Lives,
}

/// Totals for the bill.
#[derive(Clone, Copy, Default)]
pub struct Totals {
    /// Reserved, ns.
    pub reserved_ns: u64,
    /// Busy, ns.
    pub busy_ns: u64,
    /// Loading, ns.
    pub loading_ns: u64,
    /// Idle, ns.
    pub idle_ns: u64,
    /// Device bytes held × ns.
    pub byte_ns: u128,
}

impl Account {
    /// For a fleet of this many devices.
    pub fn new(devices: usize) -> Self {
        Self {
            gpus: vec![Gpu::default(); devices],
            fleet: [0; 7],
            fleet_at: 0,
            by_use: [0; 7],
            peak: [0; 7],
            series: Series::default(),
            lives: Lives::default(),
        }
    }

    /// More devices joined.
    pub fn grow(&mut self, devices: usize) {
        self.gpus.resize(devices.max(self.gpus.len()), Gpu::default());
    }

    /// Notes what a device holds and does from now on.
    pub fn note(&mut self, now: u64, n: usize, device: &Device, busy: bool, kv_used: u64) {
        let held = describe(device, busy, kv_used);
        let gpu = &mut self.gpus[n];
        if held == gpu.held {
            return;
        }
        gpu.settle(now);
        if held.reserved && !gpu.held.reserved {
            gpu.reserved_at = now;
        }
        if gpu.held.reserved && !held.reserved {
            self.lives.end(now - gpu.reserved_at);
        }
        let before = gpu.held.bytes;
        gpu.held = held;
        if before != held.bytes {
            self.fleet_settle(now);
            for (use_, (old, new)) in before.into_iter().zip(held.bytes).enumerate() {
                self.fleet[use_] = self.fleet[use_] - old + new;
                self.peak[use_] = self.peak[use_].max(self.fleet[use_]);
            }
        }
    }

    fn fleet_settle(&mut self, now: u64) {
        let dt = u128::from(now - self.fleet_at);
        if dt == 0 {
            return;
        }
        self.fleet_at = now;
        for (sum, &bytes) in self.by_use.iter_mut().zip(&self.fleet) {
            *sum += dt * u128::from(bytes);
        }
        self.series.advance(now, &self.fleet);
    }

    /// Ends the run: totals, GPU time and memory for the report.
    pub fn finish(mut self, now: u64) -> (Totals, GpuTime, MemoryReport, Lives) {
        self.fleet_settle(now);
        let mut totals = Totals::default();
        let mut causes = [0u64; 8];
        for gpu in &mut self.gpus {
            gpu.settle(now);
            if gpu.held.reserved {
                self.lives.end(now - gpu.reserved_at);
            }
            totals.reserved_ns += gpu.reserved_ns;
            totals.busy_ns += gpu.busy_ns;
            totals.loading_ns += gpu.loading_ns;
            totals.idle_ns += gpu.idle_ns;
            totals.byte_ns += gpu.byte_ns;
            causes[0] += gpu.busy_ns;
            causes[1] += gpu.loading_ns;
            for (cause, part) in causes[2..].iter_mut().zip(apportion(gpu.idle_ns, &gpu.idle_byte_ns)) {
                *cause += part;
            }
        }
        let named = CAUSES.iter().zip(causes).map(|(n, v)| ((*n).to_owned(), v)).collect();
        let span = u128::from(now.max(1));
        let by_use = (0..7).map(|n| MemoryUse {
            name: MEMORY_USES[n].to_owned(),
            gb_seconds: self.by_use[n] as f64 / 1e18,
            mean_bytes: (self.by_use[n] / span) as u64,
            peak_bytes: self.peak[n],
        });
        let by_use = by_use.collect();
        let (step_s, over_time) = self.series.finish();
        let memory = MemoryReport { by_use, step_s, over_time };
        (totals, GpuTime { reserved_ns: totals.reserved_ns, causes: named }, memory, self.lives)
    }
}

impl Gpu {
    fn settle(&mut self, now: u64) {
        let dt = now - self.since_ns;
        self.since_ns = now;
        if dt == 0 || !self.held.reserved {
            return;
        }
        self.reserved_ns += dt;
        let bytes = &self.held.bytes;
        self.byte_ns += u128::from(dt) * u128::from(bytes[..6].iter().sum::<u64>());
        if self.held.busy {
            self.busy_ns += dt;
        } else if self.held.loading {
            self.loading_ns += dt;
        } else {
            self.idle_ns += dt;
            let parts = [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4] + bytes[5], bytes[6]];
            for (sum, part) in self.idle_byte_ns.iter_mut().zip(parts) {
                *sum += u128::from(dt) * u128::from(part);
            }
        }
    }
}

fn describe(device: &Device, busy: bool, kv_used: u64) -> Held {
    if !device.reserved() {
        return Held::default();
    }
    let u = &device.uses;
    let kv_used = kv_used.min(u[uses::KV]);
    let taken = u.iter().sum::<u64>() + device.evicting.0;
    let bytes = [
        u[uses::BASE],
        u[uses::DUPLICATES],
        u[uses::ADAPTERS],
        u[uses::KERNELS] + device.evicting.0,
        kv_used,
        u[uses::KV] - kv_used,
        device.capacity.0 - taken.min(device.capacity.0),
    ];
    Held { reserved: true, busy, loading: device.starting > 0 || device.evicting.0 > 0, bytes }
}
