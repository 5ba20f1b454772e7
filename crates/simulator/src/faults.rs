//! What goes wrong on a machine: planned beforehand from a seed, or by chance whenever something is done.

use rand_pcg::Pcg64Mcg;
use troika_base::Bytes;
use troika_scheduler::{DeviceId, Goal, Heat, ModelId, Policy, PoolId, Power, Time};

use crate::beyond::VirtualRemote;
use crate::chance::Chance as _;
use crate::machine::VirtualMachine;

/// How much goes wrong. Nothing does by default.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Faults {
    /// Seconds from one loss of a device to the next, on the average; 0: none is lost.
    pub loss_every_s: f64,
    /// Seconds that a lost device stays away, on the average.
    pub gone_s: f64,
    /// Seconds from one change of a device's heat to the next; 0: all stay cool.
    pub heat_every_s: f64,
    /// Seconds from one change of what other programs take to the next; 0: they take nothing.
    pub others_every_s: f64,
    /// Seconds from one change of the source of power to the next; 0: it is the mains.
    pub power_every_s: f64,
    /// Seconds from one change of the owner's mind to the next; 0: it stays.
    pub policy_every_s: f64,
    /// Seconds from one request to let a model go to the next; 0: there is none.
    pub cool_every_s: f64,
    /// Share of loads that fail.
    pub load_fails: f64,
    /// Share of probes that are answered wrongly.
    pub probe_wrong: f64,
    /// Share of steps that never end.
    pub step_hangs: f64,
    /// Share of moves that fail.
    pub move_fails: f64,
    /// Share of steps in which a job fails by itself.
    pub job_fails: f64,
    /// Share of starts that find a part of what they need in a cache.
    pub prefix_hits: f64,
    /// From then on nothing goes wrong any more.
    pub until: Time,
}

/// Something that happens to a machine.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fault {
    Lose(DeviceId),
    Return(DeviceId),
    Heat(DeviceId, Heat),
    Others(PoolId, Bytes),
    Power(Power),
    Policy(Policy),
    Cool(ModelId),
    /// An endpoint, by its place among them, answers from now on or does not.
    Remote(usize, bool),
}

impl Faults {
    /// Some of everything, in a mixture that the chance picks: what never meets in one mixture meets in another.
    pub fn storm(rng: &mut Pcg64Mcg, until: Time) -> Self {
        let mut every = |shortest: f64, longest: f64| match rng.happens(0.6) {
            true => shortest * (longest / shortest).powf(rng.unit()),
            false => 0.0,
        };
        let mut faults = Self {
            loss_every_s: every(5.0, 200.0),
            gone_s: every(0.5, 60.0).max(0.5),
            heat_every_s: every(2.0, 60.0),
            others_every_s: every(2.0, 60.0),
            power_every_s: every(5.0, 100.0),
            policy_every_s: every(2.0, 100.0),
            cool_every_s: every(5.0, 100.0),
            until,
            ..Self::default()
        };
        let mut share = |most: f64| match rng.happens(0.5) {
            true => most * rng.unit(),
            false => 0.0,
        };
        faults.load_fails = share(0.3);
        faults.probe_wrong = share(0.3);
        faults.step_hangs = share(0.002);
        faults.move_fails = share(0.5);
        faults.job_fails = share(0.002);
        faults.prefix_hits = share(1.0);
        faults
    }

    /// What happens when, in order.
    pub(crate) fn plan(
        &self,
        machine: &VirtualMachine,
        models: usize,
        remotes: &[VirtualRemote],
        rng: &mut Pcg64Mcg,
    ) -> Vec<(Time, Fault)> {
        let mut plan = Vec::new();
        let singles: Vec<DeviceId> = (0u16..)
            .map(DeviceId)
            .zip(&machine.devices)
            .filter(|(_, facts)| facts.parts.is_empty())
            .map(|(id, _)| id)
            .collect();
        for at in self.moments(self.loss_every_s, rng) {
            let device = *rng.pick(&singles);
            plan.push((at, Fault::Lose(device)));
            let back = Time::from_seconds(at.seconds() + self.gone_s * rng.waiting());
            plan.push((back, Fault::Return(device)));
        }
        for at in self.moments(self.heat_every_s, rng) {
            let heat = *rng.pick(&[Heat::Normal, Heat::Warm, Heat::Hot]);
            plan.push((at, Fault::Heat(*rng.pick(&singles), heat)));
        }
        for at in self.moments(self.others_every_s, rng) {
            let pool = rng.below(machine.pools.len());
            let capacity = machine.pools[pool].capacity.0 as f64;
            let taken = Bytes((capacity * 0.6 * rng.unit()) as u64);
            plan.push((at, Fault::Others(PoolId(pool as u16), taken)));
        }
        for at in self.moments(self.power_every_s, rng) {
            let percent = Some(100.0 * rng.unit());
            let power = *rng.pick(&[Power::Mains, Power::Battery { percent }]);
            plan.push((at, Fault::Power(power)));
        }
        let names: Vec<&str> = Policy::names().collect();
        for at in self.moments(self.policy_every_s, rng) {
            if let Ok(policy) = rng.pick(&names).parse() {
                plan.push((at, Fault::Policy(policy)));
            }
        }
        for at in self.moments(self.cool_every_s, rng) {
            plan.push((at, Fault::Cool(ModelId(rng.below(models) as u32))));
        }
        for (at, remote) in remotes.iter().enumerate() {
            let faults = &remote.faults;
            for down in self.moments(faults.down_every_s, rng) {
                plan.push((down, Fault::Remote(at, false)));
                let back = Time::from_seconds(down.seconds() + faults.down_s * rng.waiting());
                plan.push((back, Fault::Remote(at, true)));
            }
            plan.push((self.until, Fault::Remote(at, true)));
        }
        plan.extend(self.calm(machine));
        // The order of what happens at once is that in which it was planned.
        plan.sort_by_key(|&(at, _)| at);
        plan
    }

    /// In the end all is well again.
    fn calm(&self, machine: &VirtualMachine) -> Vec<(Time, Fault)> {
        let devices = (0..machine.devices.len()).map(|id| DeviceId(id as u16));
        let pools = (0..machine.pools.len()).map(|id| PoolId(id as u16));
        let calm = devices
            .flat_map(|id| [Fault::Return(id), Fault::Heat(id, Heat::Normal)])
            .chain(pools.map(|id| Fault::Others(id, Bytes(0))))
            .chain([
                Fault::Power(Power::Mains),
                Fault::Policy(Policy::of(Goal::Balanced)),
            ]);
        calm.map(|fault| (self.until, fault)).collect()
    }

    /// Moments that come every so many seconds on the average.
    fn moments(&self, every_s: f64, rng: &mut Pcg64Mcg) -> Vec<Time> {
        let mut moments = Vec::new();
        if every_s <= 0.0 {
            return moments;
        }
        let mut at = every_s * rng.waiting();
        while at < self.until.seconds() {
            moments.push(Time::from_seconds(at));
            at += every_s * rng.waiting();
        }
        moments
    }
}
