//! Loads and evictions: fixed stages as delays, weights over links that concurrent transfers share.
//!
//! Links: each worker's disk, each device's host link. A transfer runs on the slowest link of its path; a fast loader
//! raises the per-transfer cap, not the link.

use super::{Happening, World};
use crate::kernel::sharing::Sharing;
use crate::report::model::{AdapterReport, LinkReport};
use crate::setup::{Setup, transfer_ns};
use coldframe_policy::artifact::{Class, Tier};
use coldframe_policy::parts::sharing::SharingPart;
use coldframe_policy::units::{Bytes, DeviceId, FunctionId, InstanceId};

/// A link and the cap of one transfer on it.
pub(super) struct Link {
    sharing: Sharing,
    cap: u64,
    scheduled: u64,
}

/// A load under way.
pub(super) struct Transfer {
    instance: InstanceId,
    class: Class,
    function: Option<FunctionId>,
    fixed_ns: u64,
}

/// What moved where.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    disk: (u64, u64),
    host_to_device: (u64, u64),
    device_to_host: (u64, u64),
    adapter_hits: u64,
    adapter_misses: u64,
    adapter_loads: u64,
    adapter_evictions: u64,
}

impl Moved {
    /// A load was asked for.
    pub(crate) fn load(&mut self, class: Class, from: Tier, bytes: Bytes) {
        self.adapter_loads += u64::from(class == Class::Adapter);
        if matches!(class, Class::Adapter | Class::Backbone) {
            if from != Tier::Host {
                self.disk.0 += bytes.0;
                self.disk.1 += 1;
            }
            self.host_to_device.0 += bytes.0;
            self.host_to_device.1 += 1;
        }
    }

    /// An eviction was asked for.
    pub(crate) fn evict(&mut self, class: Class, to: Tier, bytes: Bytes) {
        self.adapter_evictions += u64::from(class == Class::Adapter);
        if to == Tier::Host && bytes > Bytes::ZERO {
            self.device_to_host.0 += bytes.0;
            self.device_to_host.1 += 1;
        }
    }

    /// A request was admitted after waiting for its adapter, or not.
    pub(crate) fn admitted(&mut self, missed: bool) {
        self.adapter_hits += u64::from(!missed);
        self.adapter_misses += u64::from(missed);
    }

    /// The adapter side of the report.
    pub(crate) fn adapters(&self) -> AdapterReport {
        AdapterReport {
            hits: self.adapter_hits,
            misses: self.adapter_misses,
            loads: self.adapter_loads,
            evictions: self.adapter_evictions,
        }
    }

    /// For the report, in its order.
    pub(crate) fn links(&self) -> Vec<LinkReport> {
        let all = [
            ("remote", (0, 0)),
            ("disk", self.disk),
            ("host_to_device", self.host_to_device),
            ("device_to_host", self.device_to_host),
        ];
        all.map(|(link, (bytes, transfers))| LinkReport { link: link.to_owned(), bytes, transfers }).into()
    }
}

/// Disks of all workers, then host links of all devices.
pub(super) fn links(setup: &Setup) -> Vec<Link> {
    let link = |bandwidth: u64, cap: u64| {
        let cap = cap.clamp(1, bandwidth.max(1));
        Link {
            sharing: Sharing::new((u128::from(bandwidth) * 1000 / u128::from(cap)) as u64),
            cap,
            scheduled: u64::MAX,
        }
    };
    let disks = (0..setup.workers).map(|_| link(setup.cold.disk_bytes_per_s, setup.loader_cap()));
    let hosts = (0..setup.workers * setup.gpus_per_worker)
        .map(|_| link(setup.gpu.host_link_bytes_per_s, setup.cold.host_bytes_per_s));
    disks.chain(hosts).collect()
}

/// How long the core of a host waits for a backbone that is open: a word to another task and back, 50 to 230 us in the logs of
/// nine hosts.
const OPENED_NS: u64 = 100_000;

impl World<'_> {
    pub(super) fn load(
        &mut self,
        instance: InstanceId,
        class: Class,
        function: Option<FunctionId>,
        from: Tier,
        bytes: Bytes,
    ) {
        let cold = &self.setup.cold;
        let at = self.core.instance(instance);
        let (device, backbone) = (at.device, at.backbone.index());
        let opened = class == Class::Backbone && self.opened.get(backbone).copied().unwrap_or_default();
        let own = at.function.map(|f| &self.core.function(f).spec.load);
        let engine = matches!(self.setup.policy.sharing, SharingPart::OneProcess {})
            || self.setup.models.iter().all(|model| model.step.engine.is_some());
        let (fixed, moves) = match class {
            Class::Container => (own.map_or(cold.container_ns, |l| l[class as usize].0), false),
            Class::Runtime => (own.map_or(cold.runtime_ns, |l| l[class as usize].0), false),
            Class::Backbone if opened => (OPENED_NS, false),
            Class::Backbone => (cold.backbone_fixed_ns, !cold.backbone_mapped),
            Class::Adapter if engine && from == Tier::Host => (cold.adapter_activate_ns, false),
            Class::Adapter if engine => (self.setup.adapter_disk_ns(bytes, self.engines_have() > 0), false),
            Class::Adapter => (self.setup.adapter_ns(), false),
            Class::Kernel if from == Tier::Host => (cold.kernel_restore_ns, false),
            Class::Kernel => (own.map_or(cold.kernel_ns, |l| l[class as usize].0), false),
        };
        if opened {
            self.opened[backbone] = false;
        }
        self.moved.load(class, from, bytes);
        let fixed_ns = self.jitter.jitter(fixed, self.setup.jitter_permille);
        if !moves || bytes == Bytes::ZERO {
            let done = Happening::Loaded { instance, class, function };
            self.queue.push(self.now + fixed_ns, done);
            return;
        }
        let bytes = self.jitter.jitter(bytes.0, self.setup.jitter_permille);
        let worker = self.core.device(device).worker;
        let host_link = self.setup.workers + device.0;
        let slower_disk =
            from != Tier::Host && self.links[worker.index()].cap <= self.links[host_link as usize].cap;
        let link = if slower_disk { worker.0 } else { host_link };
        self.send(link, bytes, Transfer { instance, class, function, fixed_ns });
    }

    fn send(&mut self, l: u32, bytes: u64, transfer: Transfer) {
        let user = match self.free_transfers.pop() {
            Some(user) => {
                self.transfers[user as usize] = Some(transfer);
                user
            }
            None => {
                self.transfers.push(Some(transfer));
                self.transfers.len() as u32 - 1
            }
        };
        let link = &mut self.links[l as usize];
        link.sharing.advance(self.now);
        link.sharing.start(user, transfer_ns(bytes, link.cap).saturating_mul(1000));
        self.schedule_link(l);
    }

    fn schedule_link(&mut self, l: u32) {
        let link = &mut self.links[l as usize];
        let at = link.sharing.next_done_at().unwrap_or(u64::MAX);
        if at != link.scheduled {
            link.scheduled = at;
            if at != u64::MAX {
                self.queue.push(at, Happening::Link(l));
            }
        }
    }

    pub(super) fn link_due(&mut self, l: u32) {
        let link = &mut self.links[l as usize];
        if link.scheduled != self.now {
            return; // set before the link's users changed
        }
        link.scheduled = u64::MAX;
        link.sharing.advance(self.now);
        while let Some(user) = self.links[l as usize].sharing.take_done() {
            let t = self.transfers[user as usize].take().expect("a transfer under way");
            self.free_transfers.push(user);
            let done = Happening::Loaded { instance: t.instance, class: t.class, function: t.function };
            self.queue.push(self.now + t.fixed_ns, done);
        }
        self.schedule_link(l);
    }

    pub(super) fn evict(
        &mut self,
        instance: Option<InstanceId>,
        device: DeviceId,
        class: Class,
        to: Tier,
        bytes: Bytes,
    ) {
        self.moved.evict(class, to, bytes);
        if let (Class::Kernel, Some(i), false) = (class, instance, self.setup.one_engine()) {
            // The process loses its context: whatever engine it had is gone with it.
            if let Some(slot) = self.engines.get_mut(i.index()) {
                *slot = None;
            }
        }
        if bytes == Bytes::ZERO {
            return;
        }
        let mut wait = 0;
        if to == Tier::Host {
            wait = transfer_ns(
                bytes.0,
                self.setup.cold.host_bytes_per_s.min(self.setup.gpu.host_link_bytes_per_s),
            );
        }
        self.queue.push(self.now + wait, Happening::Evicted { device, bytes });
    }

    /// Tells the timeline of a stage that just ended.
    pub(super) fn stage_seen(&mut self, i: InstanceId, class: Class, function: Option<FunctionId>) {
        let Some(watch) = &mut self.watch else { return };
        let instance = self.core.instance(i);
        let function = function.or(instance.function);
        let start = match function.and_then(|f| instance.slots.get(&f)) {
            Some(slot) => slot.span.start.0,
            None => instance.stage_start(class).0,
        };
        watch.stage(instance.device.0, i.0, class, function.map(|f| f.0), start, self.now);
    }
}
