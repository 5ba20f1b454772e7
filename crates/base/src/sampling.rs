//! Samplers beyond the common ones, under the names that other servers give their numbers.

use serde::{Deserialize, Serialize};

macro_rules! extra_sampling {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        /// Numbers of samplers that few ask for. What is absent is the model's own default, or else the sampler is off.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct ExtraSampling {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$type>,)*
        }

        impl ExtraSampling {
            /// The names of all.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// These, and where they say nothing those of `base`.
            #[must_use]
            pub fn over(self, base: &Self) -> Self {
                Self { $($name: self.$name.or_else(|| base.$name.clone()),)* }
            }

            /// The names of those that are given.
            pub fn given(&self) -> Vec<&'static str> {
                let mut given = Vec::new();
                $(given.extend(self.$name.is_some().then_some(stringify!($name)));)*
                given
            }
        }
    };
}

extra_sampling! {
    /// Keeps the tokens that surprise about as much as is to be expected, until they have this share together.
    typical_p: f32;
    /// How often the likely tokens but the last of them are left out.
    xtc_probability: f32;
    /// From what probability on a token is likely to that.
    xtc_threshold: f32;
    /// How much a token is held down that would repeat what was said before: 0 does nothing.
    dry_multiplier: f32;
    /// By what that grows with each repeated token.
    dry_base: f32;
    /// Repeated tokens that are let pass.
    dry_allowed_length: i64;
    /// How many of the last tokens are searched for what repeats; -1 searches all.
    dry_penalty_last_n: i64;
    /// Texts that no repetition goes across.
    dry_sequence_breakers: Vec<String>;
    /// 2 keeps the surprise of the text at a level, in place of all filters; 0 does nothing.
    mirostat: i64;
    /// That level, in bits.
    mirostat_tau: f32;
    /// How fast it is approached.
    mirostat_eta: f32;
    /// How far the temperature moves to either side with how sure the model is.
    dynatemp_range: f32;
    /// How it moves between.
    dynatemp_exponent: f32;
}
