//! Looking tokens up in the embedding table.

use troika_device::Error;

use super::{Format, Matrix};
use crate::kernels::{flat, groups};
use crate::{Access, Bind, Buffer, Kernel, Key, Recorder, Tensor};

/// Rows of a matrix, by number. Buffers: quants, scales, tokens, out. Params: groups per row, tokens, first row and rows
/// of the window, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Embed(pub Format);

/// Threads of a workgroup: each takes a group.
const SIZE: u32 = 64;

impl Embed {
    pub(crate) fn kernel(self) -> Kernel {
        let mut fragments = self.0.fragments();
        fragments.push(include_str!("../wgsl/embed.wgsl"));
        Kernel {
            name: "embed",
            enables: Vec::new(),
            constants: vec![("SIZE", SIZE)],
            aliases: Vec::new(),
            fragments,
            bindings: vec![Access::Read, Access::Read, Access::Read, Access::Write],
            params: 5,
        }
    }
}

/// Looks tokens up in the embedding table: `out[t] = table[tokens[t]]`.
///
/// `tokens` are u32, each below the table's rows: of one that is not, the row of `out` stays as it was.
///
/// # Errors
/// [`Error::Failed`] if the kernel does not compile.
///
/// # Panics
/// If `out` is not `[n_tok, n_in]` of the table, or `tokens` has no room for so many.
pub fn embed(
    recorder: &mut Recorder,
    table: &Matrix,
    tokens: &Buffer,
    n_tok: usize,
    out: &Tensor,
) -> Result<(), Error> {
    assert_eq!((out.n_tok(), out.width()), (n_tok, table.n_in()));
    assert!(tokens.bytes().0 >= (n_tok * 4) as u64, "a word per token");
    let n_group = table.groups_per_row();
    for window in table.windows() {
        let binds = [
            Bind::whole(&window.quants),
            Bind::whole(&window.scales),
            Bind::whole(tokens),
            out.bind(),
        ];
        let params = [
            n_group,
            n_tok,
            window.rows.start,
            window.rows.len(),
            table.n_in(),
        ]
        .map(|n| n as u32);
        let grid = flat(groups(n_tok * n_group, SIZE));
        recorder.dispatch(Key::Embed(Embed(table.format())), &binds, &params, grid)?;
    }
    Ok(())
}
