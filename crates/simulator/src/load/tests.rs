//! Loads by name and by chance: what comes, how much, and what is refused.

use troika_planner::catalogue::Catalogue;
use troika_scheduler::{Class, Work};

use super::*;

fn load(text: &str) -> Vec<Arrival> {
    Load::parse(text).expect("is known").arrivals(1)
}

#[test]
fn published_shapes_ask_for_what_there_is() {
    let catalogue = Catalogue::builtin();
    for shape in Shape::published() {
        let load = Load::parse(&shape.name).expect("is known");
        for name in load.models() {
            let model = catalogue.model(name).expect("is in the catalogue").row;
            assert_eq!(model.name, name, "{}", shape.name);
            for arrival in load
                .arrivals(3)
                .iter()
                .filter(|arrival| arrival.model == name)
            {
                let answer = match arrival.work {
                    Work::Write { max_tokens, .. } => max_tokens,
                    Work::Embed | Work::Load => 0,
                };
                assert!(
                    arrival.prompt_tokens + answer <= model.n_ctx,
                    "{name}: {arrival:?}"
                );
            }
        }
        let classes: Vec<_> = load
            .arrivals(1)
            .iter()
            .map(|arrival| arrival.class)
            .collect();
        assert!(classes.contains(&Class::Interactive), "{}", shape.name);
        assert!(classes.contains(&Class::Background), "{}", shape.name);
    }
}

#[test]
fn the_same_seed_gives_the_same_load() {
    for shape in Shape::published() {
        let load = Load::parse(&shape.name).expect("is known");
        let first = load.arrivals(5);
        assert_eq!(first, load.arrivals(5));
        assert_ne!(first, load.arrivals(6));
        assert!(first.is_sorted_by_key(|arrival| arrival.at));
        assert!(first.len() > 100 && first.len() < 20_000, "{}", first.len());
        let end = shape.minutes * 60.0 + 60.0;
        assert!(first.iter().all(|arrival| arrival.at.seconds() < end));
    }
}

#[test]
fn a_scale_multiplies_what_nobody_waits_for() {
    let count = |text: &str, class| {
        load(text)
            .iter()
            .filter(|arrival| arrival.class == class)
            .count() as f64
    };
    let background =
        count("office-day:scale=3", Class::Background) / count("office-day", Class::Background);
    assert!((background - 3.0).abs() < 0.3, "{background}");
    assert_eq!(
        count("office-day:scale=3", Class::Interactive),
        count("office-day", Class::Interactive)
    );
}

#[test]
fn a_load_is_fitted_to_a_machine() {
    let seconds = |arrival: &Arrival| f64::from(arrival.prompt_tokens) / 5000.0;
    let asked = Load::parse("office-day:busy=0.8").expect("is known");
    let fitted = asked.fitted(1, seconds);
    let busy: f64 = fitted.arrivals(1).iter().map(seconds).sum::<f64>() / 1800.0;
    assert!((busy - 0.8).abs() < 0.05, "{busy} at {}", fitted.scale());
    assert!(fitted.scale() > 2.0);
    let plain = Load::parse("office-day").expect("is known");
    assert_eq!(
        plain.fitted(1, seconds),
        plain,
        "what was not asked for is not done"
    );
    let people_alone = asked.fitted(1, |arrival| seconds(arrival) * 1e6);
    assert_eq!(people_alone.scale(), 0.01);
}

#[test]
fn streams_do_not_depend_on_those_beside_them() {
    let own = load("poisson:rate=1,minutes=5,seed=9");
    let both =
        load("poisson:rate=1,minutes=5,seed=9; poisson:rate=1,minutes=5,seed=10,class=batch");
    let still: Vec<_> = both
        .into_iter()
        .filter(|arrival| arrival.class == Class::Interactive)
        .collect();
    assert_eq!(own, still);
}

#[test]
fn a_conversation_grows_until_it_is_cut() {
    let agent: Vec<_> = load("coding-agent")
        .into_iter()
        .filter(|arrival| arrival.class == Class::Agent)
        .collect();
    let longest = agent.iter().map(|arrival| arrival.prompt_tokens).max();
    let shortest = agent.iter().map(|arrival| arrival.prompt_tokens).min();
    assert!(
        longest > shortest.map(|tokens| tokens * 3),
        "{shortest:?} {longest:?}"
    );
}

#[test]
fn a_stream_of_its_own_is_as_it_was_asked_for() {
    let jobs = load(
        "poisson:rate=2,class=batch,model=bge-m3,prompt=100,sigma=0,kind=embed,minutes=10,owners=3,deadline=5",
    );
    assert!((1000..1400).contains(&jobs.len()), "{}", jobs.len());
    assert!(
        jobs.iter()
            .all(|job| job.work == Work::Embed && job.prompt_tokens == 100)
    );
    assert!(
        jobs.iter()
            .all(|job| job.class == Class::Batch && job.deadline.is_some())
    );
    let owners: std::collections::BTreeSet<_> = jobs.iter().map(|job| &job.owner).collect();
    assert_eq!(owners.len(), 3);
    let answers = load("poisson:rate=5,answer=200,minutes=10");
    let mut tokens: Vec<_> = answers
        .iter()
        .map(|job| match job.work {
            Work::Write { max_tokens, .. } => max_tokens,
            Work::Embed | Work::Load => 0,
        })
        .collect();
    tokens.sort_unstable();
    let median = tokens[tokens.len() / 2];
    assert!((180..220).contains(&median) && tokens[0] < 100, "{median}");
}

#[test]
fn what_is_no_load_is_told() {
    let mut all = String::new();
    for text in [
        "",
        "office",
        "office-day:pace=3",
        "office-day:scale=0",
        "office-day:busy=-1",
        "office-day:minutes",
        "poisson:rate=-1",
        "poisson:rate=nan",
        "poisson:prompt=0",
        "poisson:prompt=1.5",
        "poisson:class=urgent",
        "poisson:kind=sing",
        "poisson:speed=3",
        "poisson:rate=1000,minutes=10000",
        "poisson:rate=1;what",
    ] {
        let error = Load::parse(text).expect_err("is wrong");
        all += &format!("{error}\n");
    }
    insta::assert_snapshot!("wrong_loads", all);
}
