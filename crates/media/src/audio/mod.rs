//! Sound: read from files and streams, speech found in it, noise taken out of it.
//!
//! [`Reader`] gives blocks of one channel, [`Resampler`] brings them to a model's rate; [`VoiceActivity`] says when somebody
//! speaks, [`Denoiser`] gives the speech alone. All of them are streams: what goes in as a hundred pieces comes out as if it
//! had been one. Which library runs the model, on which device, is the [executor](Executor)'s affair.

mod denoise;
mod error;
mod kind;
mod read;
mod resample;
mod segments;
mod stft;
mod voice;
mod write;

#[cfg(test)]
mod testing;

pub use denoise::Denoiser;
pub use error::Error;
pub use kind::Kind;
pub use read::{CHANNELS_MAX, RATES, Reader, Sound, read};
pub use resample::Resampler;
pub use segments::{Event, Segment, VoiceSettings};
pub use voice::VoiceActivity;
pub use write::{WavWriter, to_pcm, write_pcm};

use troika_device_npu::exec::{Data, Executor, Tensor};

/// Where an output is in the list of them. Its [kind](Kind) was checked, so it is there.
fn output(model: &dyn Executor, name: &str) -> usize {
    let at = model.outputs().iter().position(|port| port.name == name);
    at.expect("the model's kind was checked. This is a bug.")
}

/// The numbers of some outputs; otherwise what is wrong with them.
fn floats<const N: usize>(outputs: Vec<Tensor>, at: [usize; N]) -> Result<[Vec<f32>; N], String> {
    let mut outputs: Vec<_> = outputs.into_iter().map(Some).collect();
    let mut take = |at: usize| match outputs.get_mut(at).and_then(Option::take) {
        Some(Tensor {
            data: Data::F32(numbers),
            ..
        }) => Ok(numbers),
        Some(_) => Err(format!("output {at} holds integers")),
        None => Err(format!("output {at} is lacking")),
    };
    let mut taken = [const { Vec::new() }; N];
    for (slot, at) in std::iter::zip(&mut taken, at) {
        *slot = take(at)?;
    }
    Ok(taken)
}
