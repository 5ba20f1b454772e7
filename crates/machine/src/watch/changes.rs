//! From readings to changes: thresholds, hysteresis, and what is not worth telling.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jiff::civil::Date;

use super::{Change, Felt, Heat, Known, PoolUse, PowerState, Readings};

/// A device is cooler only when it is so many degrees below the limit that it had passed.
const COOLER_C: f64 = 5.0;
/// Looks in a row that must find a device warmer, since a burst of a second warms a chip by 30 degrees.
const LOOKS_WARMER: u32 = 3;
/// Looks in a row that must find it cooler.
const LOOKS_COOLER: u32 = 5;
/// Memory that changes by less matters to nobody.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// Or by a smaller part of the pool.
const MEMORY_PART_MIN: u64 = 128;
/// A longer pause between two looks is a sleep.
const ASLEEP_MIN: Duration = Duration::from_secs(10);

/// When a look was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Since the beginning; on most systems without the time that the machine slept.
    pub(super) running: Duration,
    pub(super) wall: SystemTime,
    pub(super) date: Date,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Changes {
    moment: Option<Moment>,
    power: Option<Known<PowerState>>,
    heat: BTreeMap<String, Known<Warmth>>,
    memory: BTreeMap<String, Known<PoolUse>>,
}

impl Changes {
    /// Tells what these readings change.
    pub(super) fn tell(
        &mut self,
        moment: Moment,
        readings: Readings,
        on_change: &mut impl FnMut(Change),
    ) {
        self.time(moment, on_change);
        if let Some(power) = readings.power {
            self.power(power, on_change);
        }
        for (device, felt) in readings.heat {
            self.heat(device, felt, on_change);
        }
        for (pool, memory) in readings.memory {
            self.memory(pool, memory, on_change);
        }
    }

    fn time(&mut self, moment: Moment, on_change: &mut impl FnMut(Change)) {
        let Some(last) = self.moment.replace(moment) else {
            return;
        };
        let ran = moment.running.saturating_sub(last.running);
        // Put back, it is no sleep.
        let passed = moment.wall.duration_since(last.wall).unwrap_or_default();
        let asleep = ran.max(passed);
        if asleep >= ASLEEP_MIN {
            on_change(Change::Resumed { asleep });
        }
        if moment.date != last.date {
            on_change(Change::NewDay(moment.date));
        }
    }

    fn power(&mut self, power: Known<PowerState>, on_change: &mut impl FnMut(Change)) {
        let power = power.map(|power| match power {
            PowerState::Battery { percent } => PowerState::Battery {
                percent: percent.map(f64::round),
            },
            PowerState::Mains => PowerState::Mains,
        });
        if self.power.as_ref() == Some(&power) {
            return;
        }
        self.power = Some(power.clone());
        let (power, why) = split(power);
        on_change(Change::Power { power, why });
    }

    fn heat(&mut self, device: String, felt: Known<Felt>, on_change: &mut impl FnMut(Change)) {
        let before = self.heat.remove(&device);
        let told = before.clone().map(|known| known.map(|warmth| warmth.heat));
        let after = match (before, felt) {
            (_, Err(why)) => Err(why),
            (Some(Ok(mut warmth)), Ok(felt)) => {
                warmth.feel(felt);
                Ok(warmth)
            }
            (_, Ok(felt)) => Ok(Warmth::new(felt)),
        };
        let now = after.clone().map(|warmth| warmth.heat);
        self.heat.insert(device.clone(), after);
        if told.as_ref() != Some(&now) {
            let (heat, why) = split(now);
            on_change(Change::Heat { device, heat, why });
        }
    }

    fn memory(&mut self, pool: String, now: Known<PoolUse>, on_change: &mut impl FnMut(Change)) {
        let is_as_told = match (self.memory.get(&pool), &now) {
            (Some(Ok(told)), Ok(now)) => !differs(told, now),
            (Some(Err(told)), Err(now)) => told == now,
            _ => false,
        };
        if is_as_told {
            return;
        }
        self.memory.insert(pool.clone(), now.clone());
        let (memory, why) = split(now);
        on_change(Change::Memory { pool, memory, why });
    }
}

fn split<T>(known: Known<T>) -> (Option<T>, String) {
    match known {
        Ok(value) => (Some(value), String::new()),
        Err(why) => (None, why),
    }
}

/// Whether the difference matters. What is ours comes and goes with models and is known elsewhere, so others' use decides
/// where it is known.
fn differs(told: &PoolUse, now: &PoolUse) -> bool {
    let least = MEMORY_BYTES_MIN.max(now.total.0 / MEMORY_PART_MIN);
    match (told.others(), now.others()) {
        (Some(told), Some(now)) => told.0.abs_diff(now.0) >= least,
        (None, None) => told.used.0.abs_diff(now.used.0) >= least,
        _ => true,
    }
}

/// How warm a device is, slow to change its mind.
#[derive(Clone, Debug)]
struct Warmth {
    heat: Heat,
    /// Looks in a row that found it warmer, or cooler.
    warmer: u32,
    cooler: u32,
}

impl Warmth {
    fn new(felt: Felt) -> Self {
        Self {
            heat: level(felt, 0.0),
            warmer: 0,
            cooler: 0,
        }
    }

    fn feel(&mut self, felt: Felt) {
        let (rises_to, falls_to) = (level(felt, 0.0), level(felt, COOLER_C));
        self.warmer = if rises_to > self.heat {
            self.warmer + 1
        } else {
            0
        };
        self.cooler = if falls_to < self.heat {
            self.cooler + 1
        } else {
            0
        };
        if self.warmer >= LOOKS_WARMER {
            *self = Self::at(rises_to);
        } else if self.cooler >= LOOKS_COOLER {
            *self = Self::at(falls_to);
        }
    }

    fn at(heat: Heat) -> Self {
        Self {
            heat,
            warmer: 0,
            cooler: 0,
        }
    }
}

/// The heat if limits are passed already so many degrees below them.
fn level(felt: Felt, degrees: f64) -> Heat {
    if felt.slows_down || felt.beyond_hot >= -degrees {
        Heat::Hot
    } else if felt.beyond_warm >= -degrees {
        Heat::Warm
    } else {
        Heat::Normal
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use troika_base::Bytes;

    use super::*;

    /// A look at second `s` of the machine's running and of the day's clock.
    fn moment(running_s: u64, wall_s: u64) -> Moment {
        Moment {
            running: Duration::from_secs(running_s),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall_s),
            date: date(1970, 1, 1)
                .checked_add(jiff::Span::new().days(wall_s as i64 / 86_400))
                .expect("is a day"),
        }
    }

    fn told(changes: &mut Changes, moment: Moment, readings: Readings) -> Vec<Change> {
        let mut told = Vec::new();
        changes.tell(moment, readings, &mut |change| told.push(change));
        told
    }

    /// Degrees of a sensor that is warm at 85 and hot at 95.
    fn felt(celsius: f64) -> Felt {
        Felt {
            beyond_warm: celsius - 85.0,
            beyond_hot: celsius - 95.0,
            slows_down: false,
        }
    }

    fn heats(looks: impl IntoIterator<Item = Felt>) -> Vec<(usize, Heat)> {
        let mut changes = Changes::default();
        let mut heats = Vec::new();
        for (i, felt) in looks.into_iter().enumerate() {
            let readings = Readings {
                heat: vec![("gpu0".to_owned(), Ok(felt))],
                ..Readings::default()
            };
            for change in told(&mut changes, moment(i as u64, i as u64), readings) {
                match change {
                    Change::Heat {
                        heat: Some(heat), ..
                    } => heats.push((i, heat)),
                    other => panic!("{other:?}"),
                }
            }
        }
        heats
    }

    #[test]
    fn heat_does_not_flap() {
        use Heat::{Hot, Normal, Warm};
        let steady = |celsius: f64, looks: usize| vec![felt(celsius); looks];
        // The first look decides at once.
        assert_eq!(heats([felt(96.0)]), [(0, Hot)]);
        // A burst of two seconds is none; of three it is.
        let burst = [steady(60.0, 1), steady(97.0, 2), steady(60.0, 9)].concat();
        assert_eq!(heats(burst), [(0, Normal)]);
        let load = [steady(60.0, 1), steady(97.0, 9), steady(60.0, 9)].concat();
        assert_eq!(heats(load), [(0, Normal), (3, Hot), (14, Normal)]);
        // Around a limit.
        let around = (0..200).map(|i| felt(if i % 2 == 0 { 84.0 } else { 86.0 }));
        assert_eq!(heats(around), [(0, Normal)]);
        let above = (0..200).map(|i| felt(if i < 5 || i % 7 == 0 { 86.0 } else { 81.0 }));
        assert_eq!(heats(above), [(0, Warm)]);
        // By steps.
        let cooling = [
            steady(96.0, 1),
            steady(91.0, 9),
            steady(86.0, 9),
            steady(79.0, 9),
        ];
        assert_eq!(
            heats(cooling.concat()),
            [(0, Hot), (14, Warm), (23, Normal)]
        );
        // The driver says so, however cool the sensor is.
        let slow = Felt {
            slows_down: true,
            ..felt(50.0)
        };
        assert_eq!(
            heats([felt(50.0), slow, slow, slow]),
            [(0, Normal), (3, Hot)]
        );
    }

    #[test]
    fn a_sensor_that_vanishes_is_told_once_and_again_when_it_is_back() {
        let mut changes = Changes::default();
        let mut look = |felt: Known<Felt>| {
            let readings = Readings {
                heat: vec![("cpu0".to_owned(), felt)],
                ..Readings::default()
            };
            told(&mut changes, moment(0, 0), readings)
        };
        let gone = || Err("it has no sensor".to_owned());
        assert_eq!(look(Ok(felt(90.0))).len(), 1);
        assert_eq!(
            look(gone()),
            [Change::Heat {
                device: "cpu0".to_owned(),
                heat: None,
                why: "it has no sensor".to_owned(),
            }]
        );
        assert_eq!(look(gone()), []);
        assert_eq!(look(Ok(felt(90.0))).len(), 1);
    }

    #[test]
    fn power_is_told_by_the_percent() {
        let mut changes = Changes::default();
        let mut look = |power: Option<Known<PowerState>>| {
            let readings = Readings {
                power,
                ..Readings::default()
            };
            told(&mut changes, moment(0, 0), readings).len()
        };
        let battery = |percent| Some(Ok(PowerState::Battery { percent }));
        for (power, changes) in [
            (None, 0),
            (Some(Err("nothing tells".to_owned())), 1),
            (Some(Err("nothing tells".to_owned())), 0),
            (Some(Ok(PowerState::Mains)), 1),
            (None, 0),
            (Some(Ok(PowerState::Mains)), 0),
            (battery(Some(71.2)), 1),
            (battery(Some(70.8)), 0),
            (battery(Some(70.4)), 1),
            (battery(None), 1),
            (battery(None), 0),
        ] {
            assert_eq!(look(power.clone()), changes, "{power:?}");
        }
    }

    #[test]
    fn memory_is_told_when_it_matters() {
        const GIB: u64 = 1 << 30;
        const MIB: u64 = 1 << 20;
        let memory = |total, used, ours: Option<u64>| {
            Ok(PoolUse {
                total: Bytes(total),
                used: Bytes(used),
                ours: ours.map(Bytes),
            })
        };
        let mut changes = Changes::default();
        let mut look = |now: Known<PoolUse>| {
            let readings = Readings {
                memory: vec![("ram".to_owned(), now)],
                ..Readings::default()
            };
            told(&mut changes, moment(0, 0), readings).len()
        };
        for (now, changes) in [
            (memory(8 * GIB, 4 * GIB, Some(GIB)), 1),
            (memory(8 * GIB, 4 * GIB + 63 * MIB, Some(GIB)), 0),
            (memory(8 * GIB, 4 * GIB + 64 * MIB, Some(GIB)), 1),
            // It was we.
            (memory(8 * GIB, 6 * GIB + 64 * MIB, Some(3 * GIB)), 0),
            // Nobody knows whose.
            (memory(8 * GIB, 6 * GIB, None), 1),
            (memory(8 * GIB, 6 * GIB + MIB, None), 0),
            (memory(8 * GIB, 7 * GIB, None), 1),
            (Err("there is no such file".to_owned()), 1),
            (Err("there is no such file".to_owned()), 0),
            (memory(512 * GIB, 7 * GIB, Some(0)), 1),
            (memory(512 * GIB, 10 * GIB, Some(0)), 0),
            (memory(512 * GIB, 11 * GIB, Some(0)), 1),
            // More ours than is used: two files that were not read at once.
            (memory(512 * GIB, GIB, Some(2 * GIB)), 1),
        ] {
            assert_eq!(look(now.clone()), changes, "{now:?}");
        }
    }

    #[test]
    fn sleep_and_midnight_are_noticed() {
        let asleep = |s| Change::Resumed {
            asleep: Duration::from_secs(s),
        };
        for (name, looks, want) in [
            ("steady", vec![(0, 100), (1, 101), (2, 102)], vec![]),
            (
                "slept, and the counter with it",
                vec![(0, 100), (1, 4000)],
                vec![asleep(3900)],
            ),
            (
                "slept, and the counter went on",
                vec![(0, 100), (900, 1000)],
                vec![asleep(900)],
            ),
            ("a slow look", vec![(0, 100), (4, 104)], vec![]),
            ("the clock is put back", vec![(0, 9000), (1, 100)], vec![]),
            (
                "midnight",
                vec![(0, 86_399), (1, 86_400), (2, 86_401)],
                vec![Change::NewDay(date(1970, 1, 2))],
            ),
            (
                "slept over night",
                vec![(0, 80_000), (1, 100_000)],
                vec![asleep(20_000), Change::NewDay(date(1970, 1, 2))],
            ),
        ] {
            let mut changes = Changes::default();
            let mut all = Vec::new();
            for (running_s, wall_s) in looks {
                let moment = moment(running_s, wall_s);
                all.extend(told(&mut changes, moment, Readings::default()));
            }
            assert_eq!(all, want, "{name}");
        }
    }
}
