//! Recipes for a whole file, by the names that people know.

use std::fmt;
use std::str::FromStr;

use troika_base::DType;

macro_rules! mixes {
    ($($name:ident = $file_type:literal, $dtype:ident;)*) => {
        /// A recipe for a whole file: most tensors in one format, some in a better one.
        ///
        /// Names and numbers are those of llama.cpp; which tensor gets what is told by the rules of this crate.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(non_camel_case_types, reason = "recipes are spelt as files are named, so that a search finds them everywhere")]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum Mix {
            $($name,)*
        }

        impl Mix {
            /// Every recipe, in order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The value of `general.file_type`.
            pub fn file_type(self) -> u32 {
                match self { $(Self::$name => $file_type,)* }
            }

            /// The format that most of the weights get.
            pub fn base(self) -> DType {
                match self { $(Self::$name => DType::$dtype,)* }
            }

            /// The name, as the end of a file's name has it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

mixes! {
    F32 = 0, F32;
    F16 = 1, F16;
    Q4_0 = 2, Q4_0;
    Q4_1 = 3, Q4_1;
    Q8_0 = 7, Q8_0;
    Q5_0 = 8, Q5_0;
    Q5_1 = 9, Q5_1;
    Q2_K = 10, Q2_K;
    Q3_K_S = 11, Q3_K;
    Q3_K_M = 12, Q3_K;
    Q3_K_L = 13, Q3_K;
    Q4_K_S = 14, Q4_K;
    Q4_K_M = 15, Q4_K;
    Q5_K_S = 16, Q5_K;
    Q5_K_M = 17, Q5_K;
    Q6_K = 18, Q6_K;
    IQ2_XXS = 19, IQ2_XXS;
    IQ2_XS = 20, IQ2_XS;
    Q2_K_S = 21, Q2_K;
    IQ3_XS = 22, IQ3_S;
    IQ3_XXS = 23, IQ3_XXS;
    IQ1_S = 24, IQ1_S;
    IQ4_NL = 25, IQ4_NL;
    IQ3_S = 26, IQ3_S;
    IQ3_M = 27, IQ3_S;
    IQ2_S = 28, IQ2_XS;
    IQ2_M = 29, IQ2_S;
    IQ4_XS = 30, IQ4_XS;
    IQ1_M = 31, IQ1_M;
    BF16 = 32, BF16;
    TQ1_0 = 36, TQ1_0;
    TQ2_0 = 37, TQ2_0;
    MXFP4_MOE = 38, MXFP4;
    NVFP4 = 39, NVFP4;
}

/// A name that is no recipe.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{name}` is no type of weights; there is {}", known())]
pub struct UnknownMix {
    /// What was asked for.
    pub name: String,
}

fn known() -> String {
    let names: Vec<_> = Mix::ALL.iter().map(|mix| mix.name()).collect();
    names.join(", ")
}

impl FromStr for Mix {
    type Err = UnknownMix;

    /// The recipe of this name, in upper or lower case. `Q3_K`, `Q4_K` and `Q5_K` are their medium mixes, as everywhere.
    fn from_str(name: &str) -> Result<Self, UnknownMix> {
        let wanted = match name.to_ascii_uppercase().as_str() {
            wanted @ ("Q3_K" | "Q4_K" | "Q5_K") => format!("{wanted}_M"),
            wanted => wanted.to_owned(),
        };
        let found = Self::ALL.iter().find(|mix| mix.name() == wanted);
        found.copied().ok_or_else(|| UnknownMix {
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_either_case_and_short() {
        for mix in Mix::ALL {
            assert_eq!(mix.name().to_lowercase().parse(), Ok(*mix));
        }
        assert_eq!("q4_k".parse(), Ok(Mix::Q4_K_M));
        let unknown = "Q4_K_XL".parse::<Mix>().expect_err("is none");
        assert!(unknown.to_string().contains("Q4_K_S"), "{unknown}");
    }

    #[test]
    fn numbers_are_one_each() {
        for pair in Mix::ALL.windows(2) {
            assert!(pair[0].file_type() < pair[1].file_type(), "{pair:?}");
        }
    }
}
