//! The command that plays a replica's share before anything is rented.

use crate::plan::replicas::{Crew, Replicas};

/// The form of weights that a simulation takes where none is named.
const SIMULATED_AS: &str = "Q4_K_M";

/// Minutes of the load: long enough that its beginning does not count.
const MINUTES: u32 = 10;

/// `troika simulate` of one replica with its share of the users; `None` where the simulator cannot know machine or model.
///
/// Users side by side each ask again when they have their answer: as many as there are in the time that an answer takes at the
/// speeds that are wanted. Replicas share nothing, so one with its part of the load stands for all.
pub fn simulation(crew: &Crew, replicas: &Replicas) -> Option<String> {
    let workload = &replicas.workload;
    let machine = crew.machine.as_ref().filter(|_| replicas.is_of_catalogue)?;
    let forecast = crew.verdict.forecast.as_ref()?;
    let wait_s = workload.ttft_s.or(forecast.ttft_s.map(|ttft| ttft.value))?;
    let tps = workload.tps.unwrap_or(forecast.decode_tps.value);
    let users = workload.users.div_ceil(crew.replicas.high);
    let rate = f64::from(users) / (wait_s + f64::from(workload.gen_tokens) / tps);
    let model = &workload.model;
    let renamed = match workload.quantization.eq_ignore_ascii_case(SIMULATED_AS) {
        true => String::new(),
        false => format!(" --models '{model}={model}:{}'", workload.quantization),
    };
    Some(format!(
        "troika simulate --machine '{machine}' --load 'poisson:rate={rate:.3},minutes={MINUTES},prompt={},answer={},owners={users},model={model}'{renamed} --against none",
        workload.prompt_tokens, workload.gen_tokens
    ))
}
