//! How urgent a body says its job is: `service_tier` of OpenAI and Anthropic, `priority` of vLLM.

use troika_scheduler::Class;

use super::{Integer, count};
use crate::ApiError;

/// The class that a body asks for, of whose two fields `priority` wins; `None` if neither asks for one.
///
/// # Errors
/// If there is no such tier, or the number is none.
pub(crate) fn urgency(
    service_tier: Option<&str>,
    priority: Option<Integer>,
) -> Result<Option<Class>, ApiError> {
    let of_tier = service_tier.map(Class::of_service_tier).transpose();
    let of_tier = of_tier
        .map_err(|unknown| ApiError::invalid(unknown.to_string()).at("service_tier"))?
        .flatten();
    let priority = priority.map(|it| count(it, i64::MIN.into()..=i64::MAX.into(), "priority"));
    let of_priority = priority.transpose()?.and_then(Class::of_priority);
    Ok(of_priority.or(of_tier))
}

/// The tier that OpenAI's answer names: the one that was asked for, and `default` where the choice was left open.
pub(crate) fn tier_told(service_tier: &str) -> &str {
    match Class::of_service_tier(service_tier) {
        Ok(None) => "default",
        _ => service_tier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_say_how_urgent_they_are() {
        let number = |number: i128| Some(Integer(number));
        for (tier, priority, want) in [
            (None, None, Ok(None)),
            (Some("auto"), None, Ok(None)),
            (Some("standard_only"), number(0), Ok(None)),
            (Some("flex"), None, Ok(Some(Class::Background))),
            (Some("flex"), number(0), Ok(Some(Class::Background))),
            (Some("flex"), number(-1), Ok(Some(Class::Interactive))),
            (None, number(7), Ok(Some(Class::Background))),
            (None, number(1000), Ok(Some(Class::Batch))),
            (Some("gold"), number(-1), Err("service_tier")),
            (Some(""), None, Err("service_tier")),
            (None, number(1 << 70), Err("priority")),
        ] {
            let class = urgency(tier, priority).map_err(|error| error.param.unwrap_or_default());
            assert_eq!(class, want.map_err(str::to_owned), "{tier:?} {priority:?}");
        }
        let error = urgency(Some("gold"), None).unwrap_err();
        assert!(error.message.contains("flex, batch"), "{error}");
    }
}
