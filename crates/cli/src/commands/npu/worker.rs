//! `troika npu worker`: the process that compiles. Not for people: it is asked and answers by lines of JSON.

use std::io::{self, BufReader};

use anyhow::Context as _;
use troika_device_npu::compile;
use troika_machine::probe::{self, Root};

use crate::home::Home;
use crate::npu;

pub(super) fn run(home: &Home) -> anyhow::Result<()> {
    let machine = probe::read(&Root::real());
    let backends = npu::backends(home, &machine)?.all();
    let input = BufReader::new(io::stdin());
    #[expect(
        clippy::exit,
        reason = "a compiler listens to nobody; what is half done is removed by who asked, or by who comes next"
    )]
    let abandoned = || std::process::exit(1);
    compile::serve(
        input,
        &mut io::stdout(),
        &backends,
        &npu::ByEngine,
        abandoned,
    )
    .context("the compiling process cannot go on")
}
