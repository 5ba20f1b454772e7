//! The money model against figures that can be checked by hand, some of them known claims (their numbers are those of the
//! project's list of checked facts).

use proptest::prelude::*;

use super::*;

fn near(got: f64, want: f64) {
    assert!(
        (got - want).abs() <= 1e-9 * want.abs().max(1.0),
        "{got} is not {want}"
    );
}

fn bought(usd: f64, lifetime_months: f64, residual: f64) -> Costs {
    Costs {
        purchase: Some(Purchase {
            usd: Estimate::exact(usd),
            lifetime_months,
            residual,
            source: "given".to_owned(),
        }),
        ..Costs::free("bought")
    }
}

fn powered(mut costs: Costs, watts: f64, usd_kwh: f64) -> Costs {
    let watts = Estimate::exact(watts);
    costs.power = Some(Power {
        idle_w: watts,
        prefill_w: watts,
        decode_w: watts,
        overhead: 0.0,
        usd_kwh: Estimate::exact(usd_kwh),
        source: "given".to_owned(),
    });
    costs
}

fn rented(node_usd_hour: f64, unit: BillingUnit, minimum_s: f64) -> Costs {
    Costs {
        rent: Some(Rent {
            node_usd_hour: Estimate::exact(node_usd_hour),
            unit,
            minimum_s,
            redone: 0.0,
            source: "given".to_owned(),
        }),
        ..Costs::free("rented")
    }
}

fn days(days_per_month: f64, hours_per_day: f64) -> Use {
    Use {
        days_per_month,
        hours_per_day,
        ..Use::idle()
    }
}

/// C103: 0.7 kW × 720 h = 504 kWh and 0.3 kW = 216 kWh. C104: 504 kWh at 10 to 30 cents are 50 to 150 dollars.
#[test]
fn a_month_at_full_load() {
    let month = days(30.0, 24.0);
    for (watts, kwh) in [(700.0, 504.0), (300.0, 216.0)] {
        let bill = monthly(&powered(Costs::free("gpu"), watts, 0.1), &month);
        near(bill.kwh.value, kwh);
    }
    let mut costs = powered(Costs::free("gpu"), 700.0, 0.2);
    if let Some(power) = &mut costs.power {
        power.usd_kwh = Estimate {
            value: 0.2,
            low: 0.1,
            high: 0.3,
        };
    }
    let electricity = monthly(&costs, &month).electricity;
    near(electricity.low, 50.4);
    near(electricity.value, 100.8);
    near(electricity.high, 151.2);
}

/// C105: what a data centre adds, 30 to 50 %, is a factor on all of it.
#[test]
fn overhead_multiplies() {
    let mut costs = powered(Costs::free("gpu"), 1000.0, 0.1);
    for (overhead, kwh) in [(0.3, 936.0), (0.5, 1080.0)] {
        if let Some(power) = &mut costs.power {
            power.overhead = overhead;
        }
        near(monthly(&costs, &days(30.0, 24.0)).kwh.value, kwh);
    }
}

/// C110 to C112: a node of eight H100 at 49.24 is 6.155 per GPU, one of eight B200 at 68.80 is 8.60, and 7.57 per GPU is
/// 60.56 for the node. The bill is the node's, whatever is printed per GPU.
#[test]
fn nodes_are_billed_whole() {
    for (node, per_gpu) in [(49.24, 6.155), (68.80, 8.60), (60.56, 7.57)] {
        near(node / 8.0, per_gpu);
        let bill = monthly(&rented(node, BillingUnit::Second, 0.0), &days(30.0, 24.0));
        near(bill.rent.value, node * 720.0);
    }
}

/// C118, C130: units and minimums. Ten minutes, twelve times a day, on thirty days.
#[test]
fn starts_are_rounded_up() {
    let usage = Use {
        starts_per_day: 12.0,
        ..days(30.0, 2.0)
    };
    for (unit, minimum_s, hours) in [
        (BillingUnit::Second, 0.0, 60.0),
        (BillingUnit::Minute, 0.0, 60.0),
        (BillingUnit::Second, 900.0, 90.0),
        (BillingUnit::Hour, 0.0, 360.0),
        (BillingUnit::Month, 0.0, 730.0),
    ] {
        let bill = monthly(&rented(1.0, unit, minimum_s), &usage);
        near(bill.rent.value, hours);
    }
    let always = days(DAYS_PER_MONTH, 24.0);
    near(
        monthly(&rented(1.0, BillingUnit::Hour, 0.0), &always)
            .rent
            .value,
        730.0,
    );
}

#[test]
fn work_that_is_lost_is_paid_twice() {
    let mut spot = rented(1.25, BillingUnit::Second, 0.0);
    if let Some(rent) = &mut spot.rent {
        rent.redone = 0.1;
    }
    near(monthly(&spot, &days(30.0, 8.0)).rent.value, 1.25 * 264.0);
}

/// C136: capex / lifetime + kWh · PUE · price + egress · GB + rent · h, with every part present, and 3 machines.
#[test]
fn the_known_formula() {
    let mut costs = powered(bought(3600.0, 36.0, 0.25), 500.0, 0.2);
    costs.count = 3;
    if let Some(power) = &mut costs.power {
        power.overhead = 0.4;
    }
    costs.rent = rented(2.0, BillingUnit::Second, 0.0).rent;
    costs.egress = vec![Egress {
        destination: "internet".to_owned(),
        tariff: "10240:0.09,0.05".parse().expect("is a tariff"),
        gb_month: Estimate::exact(5000.0),
        source: "given".to_owned(),
    }];
    costs.staff = Some(Staff {
        hours_month: 4.0,
        hours_month_each: 1.0,
        usd_hour: 50.0,
    });
    costs.once = vec![Once {
        name: "training".to_owned(),
        usd: Estimate::exact(1200.0),
        serves_months: 12.0,
    }];
    assert_eq!(costs.check(), Ok(()));
    let usage = Use {
        requests_per_day: 1000.0,
        prompt_tokens: 700.0,
        answer_tokens: 300.0,
        ..days(30.0, 24.0)
    };
    let bill = monthly(&costs, &usage);
    near(bill.capital.value, 3.0 * 2700.0 / 36.0 + 100.0);
    near(bill.kwh.value, 3.0 * 360.0 * 1.4);
    near(bill.electricity.value, 3.0 * 360.0 * 1.4 * 0.2);
    near(bill.rent.value, 3.0 * 1440.0);
    // Together they climb into the second tier, which none of them would alone.
    near(bill.egress.value, 10_240.0 * 0.09 + 4760.0 * 0.05);
    near(bill.staff.value, 350.0);
    let total = 325.0 + 302.4 + 4320.0 + 1159.6 + 350.0;
    near(bill.total.value, total);
    // 90 million tokens, 27 of them answers.
    near(
        bill.per_million_tokens.expect("there are tokens").value,
        total / 90.0,
    );
    near(
        bill.per_million_answer_tokens
            .expect("there are answers")
            .value,
        total / 27.0,
    );
    let lines: f64 = bill
        .lines
        .iter()
        .filter(|line| line.unit == "USD/month")
        .map(|line| line.value)
        .sum();
    near(lines, total);
}

#[test]
fn phases_have_their_own_watts() {
    let mut costs = powered(Costs::free("gpu"), 0.0, 0.3);
    if let Some(power) = &mut costs.power {
        power.idle_w = Estimate::exact(20.0);
        power.prefill_w = Estimate::exact(400.0);
        power.decode_w = Estimate::exact(250.0);
    }
    let usage = Use {
        requests_per_day: 360.0,
        prefill_s: Estimate::exact(5.0),
        decode_s: Estimate {
            value: 20.0,
            low: 10.0,
            high: 40.0,
        },
        ..days(30.0, 10.0)
    };
    // A day: half an hour reading, two hours writing, seven and a half at rest.
    let kwh = monthly(&costs, &usage).kwh;
    near(kwh.value, 30.0 * (0.2 + 0.5 + 0.15));
    near(kwh.low, 30.0 * (0.2 + 0.25 + 0.17));
    near(kwh.high, 30.0 * (0.2 + 1.0 + 0.11));
    near(usage.busy_share().value, 0.25);
}

#[test]
fn training_once_and_inference_for_ever() {
    let mut costs = powered(Costs::free("own model"), 100.0, 0.25);
    costs.once = vec![Once {
        name: "training".to_owned(),
        usd: Estimate::exact(500.0),
        serves_months: f64::INFINITY,
    }];
    let usage = days(30.0, 24.0);
    let bill = monthly(&costs, &usage);
    near(bill.capital.value, 0.0);
    near(bill.total.value, 18.0);
    assert_eq!(cumulative(&costs, &usage, 2), [500.0, 518.0, 536.0]);
}

#[test]
fn buying_breaks_even_where_the_lines_cross() {
    let usage = days(30.0, 8.0);
    let (buy, rent) = (
        powered(bought(2400.0, 48.0, 0.0), 500.0, 0.25),
        rented(0.625, BillingUnit::Second, 0.0),
    );
    // 2400 + 30 t = 150 t.
    near(
        break_even_month(&buy, &rent, &usage).expect("crosses"),
        20.0,
    );
    // Rent costs nothing at first.
    assert_eq!(break_even_month(&rent, &buy, &usage), Some(0.0));
    // 2400 every 48 months are 50 a month, and with electricity 80: for less than that it is never bought.
    let cheap = rented(0.1, BillingUnit::Second, 0.0);
    assert_eq!(break_even_month(&buy, &cheap, &usage), None);
    assert_eq!(break_even_month(&rent, &rent, &usage), Some(0.0));
    let dearer = rented(0.7, BillingUnit::Second, 0.0);
    assert_eq!(break_even_month(&dearer, &rent, &usage), None);
}

/// A machine that is sold in time: 1000 paid, 20 a month of advantage, so 60 are missing after 47 months; the sale brings 100.
#[test]
fn the_sale_at_the_end_counts() {
    let usage = days(30.0, 10.0);
    let buy = bought(1040.0, 48.0, 0.1);
    let rent = rented(20.0 / 300.0, BillingUnit::Second, 0.0);
    assert_eq!(break_even_month(&buy, &rent, &usage), Some(48.0));
    let paid = cumulative(&buy, &usage, 49);
    assert_eq!((paid[0], paid[47]), (1040.0, 1040.0));
    near(paid[48], 936.0);
    near(paid[49], 1976.0);
}

#[test]
fn the_break_even_has_an_interval() {
    let usage = days(30.0, 10.0);
    let mut buy = bought(2000.0, 600.0, 0.0);
    if let Some(purchase) = &mut buy.purchase {
        purchase.usd = Estimate {
            value: 2000.0,
            low: 1500.0,
            high: 3000.0,
        };
    }
    let mut rent = rented(0.5, BillingUnit::Second, 0.0);
    if let Some(rent) = &mut rent.rent {
        rent.node_usd_hour = Estimate {
            value: 0.5,
            low: 0.25,
            high: 1.0,
        };
    }
    let even = break_even(&buy, &usage, &rent, &usage);
    near(even.month.expect("crosses"), 2000.0 / 150.0);
    near(even.earliest.expect("crosses"), 5.0);
    near(even.latest.expect("crosses"), 40.0);
}

#[test]
fn the_flip_is_where_both_cost_the_same() {
    let usage = days(30.0, 8.0);
    // 50 + 30 against 240 h · 0.4 = 96 a month: bought is the cheaper.
    let buy = powered(bought(2400.0, 48.0, 0.0), 500.0, 0.25);
    let rent = rented(0.4, BillingUnit::Second, 0.0);
    let flips = sensitivity(&buy, &usage, &rent, &usage);
    let at = |input: &str, side: Side| {
        let flip = flips
            .iter()
            .find(|flip| flip.input == input && flip.side == side);
        flip.unwrap_or_else(|| panic!("{input} turns it round: {flips:?}"))
            .at
    };
    near(at("rent of an hour", Side::B), 80.0 / 240.0);
    near(at("purchase price", Side::A), 66.0 * 48.0);
    near(at("lifetime", Side::A), 2400.0 / 66.0);
    near(at("price of a kilowatt-hour", Side::Both), 46.0 / 120.0);
    // 50 + 3.75 h = 12 h, and rent goes up by the second.
    let hours = at("hours a day", Side::Both);
    assert!((hours - 50.0 / 8.25).abs() < 1.0 / 1800.0, "{hours}");
    assert!(flips.is_sorted_by(|a, b| a.moved <= b.moved));
    assert!(flips.iter().all(|flip| (0.0..=1.0).contains(&flip.moved)));
    assert!(
        !flips.iter().any(|flip| flip.input == "residual share"),
        "selling makes it cheaper still"
    );
}

#[test]
fn nonsense_is_named() {
    let usage = Use {
        requests_per_day: 10_000.0,
        decode_s: Estimate::exact(9.0),
        ..days(30.0, 8.0)
    };
    let error = usage
        .check()
        .expect_err("25 hours are no day's work")
        .to_string();
    assert!(
        error.contains("25.0 h") && error.contains("on for 8 h"),
        "{error}"
    );
    for (costs, want) in [
        (bought(-1.0, 36.0, 0.0), "the purchase price is -1"),
        (bought(f64::NAN, 36.0, 0.0), "the purchase price is NaN"),
        (bought(1.0, 0.0, 0.0), "the lifetime in months is 0"),
        (bought(1.0, 36.0, 1.5), "the residual share is 1.5"),
        (
            rented(-2.0, BillingUnit::Hour, 0.0),
            "the rent of an hour is -2",
        ),
        (
            Costs {
                count: 0,
                ..bought(1.0, 36.0, 0.0)
            },
            "the number of machines is 0",
        ),
        (Costs::free("x"), "x is neither bought nor rented"),
    ] {
        let error = costs.check().expect_err(want).to_string();
        assert!(error.starts_with(want), "{error}");
    }
    for usage in [
        days(0.0, 8.0),
        days(30.0, 0.0),
        days(30.0, 25.0),
        days(30.0, f64::NAN),
    ] {
        assert!(usage.check().is_err(), "{usage:?}");
    }
}

prop_compose! {
    fn any_costs()(
        purchase in prop::option::of((0.0..1e5, 1.0..120.0, 0.0..1.0)),
        rent in prop::option::of((0.0..100.0, 0.0..7200.0)),
        watts in prop::option::of((0.0..3000.0, 0.0..1.0)),
        count in 1u32..50,
    ) -> Costs {
        let mut costs = purchase.map_or_else(|| Costs::free("any"), |(usd, life, residual)| bought(usd, life, residual));
        if let Some((watts, price)) = watts {
            costs = powered(costs, watts, price);
        }
        costs.rent = rent.and_then(|(usd, minimum_s)| rented(usd, BillingUnit::Minute, minimum_s).rent);
        costs.count = count;
        costs
    }
}

proptest! {
    /// Whoever breaks even at a month has paid no more by then, and had paid more until then.
    #[test]
    fn a_break_even_is_one(a in any_costs(), b in any_costs(), hours in 0.5..24.0) {
        let usage = days(30.0, hours);
        if let Some(month) = break_even_month(&a, &b, &usage) {
            // A machine of the same option at a whole month, from the independent account of the plots.
            let until = month.floor() as u32;
            let (paid_a, paid_b) = (cumulative(&a, &usage, until), cumulative(&b, &usage, until));
            for month in 1..until as usize {
                let slack = 1e-6 * paid_a[month].abs().max(1.0);
                prop_assert!(paid_a[month] + slack >= paid_b[month], "month {month} of {until}");
            }
        }
    }

    #[test]
    fn the_lines_of_a_bill_are_its_total(costs in any_costs(), hours in 0.5..24.0) {
        let bill = monthly(&costs, &days(30.0, hours));
        let lines: f64 = bill.lines.iter().filter(|line| line.unit == "USD/month").map(|line| line.value).sum();
        prop_assert!((lines - bill.total.value).abs() <= 1e-9 * lines.max(1.0));
        prop_assert!(bill.total.low <= bill.total.value && bill.total.value <= bill.total.high);
    }
}

/// The example of the guide: a rig of 3700 dollars against a node of 0.60 an hour.
fn guides_example() -> (Costs, Costs, Use) {
    let mut rig = bought(3700.0, 36.0, 0.4);
    rig.power = Some(Power {
        idle_w: Estimate::exact(60.0),
        prefill_w: Estimate::exact(600.0),
        decode_w: Estimate::exact(500.0),
        overhead: 0.0,
        usd_kwh: Estimate::exact(0.30),
        source: "given".to_owned(),
    });
    let usage = Use {
        requests_per_day: 400.0,
        prompt_tokens: 1500.0,
        answer_tokens: 400.0,
        prefill_s: Estimate::exact(2.0),
        decode_s: Estimate::exact(22.0),
        hours_per_day: 8.0,
        ..Use::idle()
    };
    (rig, rented(0.60, BillingUnit::Second, 0.0), usage)
}

#[test]
fn the_guide_tells_what_the_model_computes() {
    let guide = include_str!("../../../../docs/guide/money.md");
    let (rig, node, usage) = guides_example();
    assert_eq!(
        (rig.check(), node.check(), usage.check()),
        (Ok(()), Ok(()), Ok(()))
    );
    let (bill, rent) = (monthly(&rig, &usage), monthly(&node, &usage));
    let tokens = bill.per_million_tokens.expect("there are tokens");
    let months = break_even_month(&rig, &node, &usage).expect("pays");
    let flips = sensitivity(&rig, &usage, &node, &usage);
    let mut told = vec![
        format!("| purchase | {:.2} |", bill.capital.value),
        format!("{:.2} kWh", bill.kwh.value),
        format!("| electricity | {:.2} |", bill.electricity.value),
        format!("| total | {:.2} |", bill.total.value),
        format!("{:.2} a month in rent", rent.total.value),
        format!("{:.2} per million tokens", tokens.value),
        format!("after {months:.1} months"),
    ];
    for flip in &flips {
        told.push(format!(
            "| {} | {:.2} | {:.2} |",
            flip.input, flip.now, flip.at
        ));
    }
    for text in &told {
        assert!(
            guide.contains(text),
            "the guide does not say {text:?}, of\n{told:#?}"
        );
    }
}
