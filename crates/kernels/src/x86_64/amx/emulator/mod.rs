//! Executes AMX instructions in software on CPUs that have none, for tests and for debugging.
//!
//! On such a CPU each tile instruction raises SIGILL. The handler decodes the bytes that RIP points to, executes them
//! on a software copy of the thread's tile state, and lets the thread go on behind the instruction. So what runs is the
//! machine code of the kernels as compiled, with its registers, addresses and strides, and not a second version of it.
//!
//! [`decode`](mod@decode) reads instructions and [`state`] executes them; both are plain functions. Anything that is
//! not AMX, and AMX that a real unit would refuse too, goes to whoever handled SIGILL before: by default, the process
//! ends. Neither exceptions of memory (a fault in a tile load is one in this handler) nor restarts at a row are
//! emulated.

mod decode;
mod state;

use std::cell::UnsafeCell;
use std::sync::OnceLock;
use std::{mem, ptr};

use decode::{Decoded, Registers, decode};
use state::State;

thread_local! {
    // Constant and without a destructor: reading it in a signal handler neither allocates nor registers anything.
    static STATE: UnsafeCell<State> = const { UnsafeCell::new(State::RELEASED) };
}

/// Who handled SIGILL before, once we do.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Catches AMX instructions in all threads of this process from now on; says whether it could.
///
/// Not for CPUs where the unit is switched on, whose instructions would not all fault.
pub(crate) fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        // SAFETY: all-zero is a valid `sigaction`, and the call only fills it in.
        let previous = unsafe {
            let mut previous = mem::zeroed();
            if libc::sigaction(libc::SIGILL, ptr::null(), &mut previous) != 0 {
                return false;
            }
            previous
        };
        // Before the handler can run, since it reads this.
        PREVIOUS.get_or_init(|| previous);
        // SAFETY: all-zero is a valid `sigaction`; the handler has the signature that SA_SIGINFO asks for and does
        // nothing that a signal handler must not.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_sigill as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, ptr::null_mut()) == 0
        }
    })
}

/// The handler. The signal is raised by the instruction at RIP, so nothing of the thread runs meanwhile.
extern "C" fn on_sigill(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO the third argument is the thread's `ucontext_t`, ours alone until we return.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    if !step(registers) {
        // SAFETY: `PREVIOUS` is what the kernel gave us. The thread returns to the same instruction, now without us.
        unsafe {
            libc::sigaction(
                libc::SIGILL,
                PREVIOUS.get().map_or(ptr::null(), ptr::from_ref),
                ptr::null_mut(),
            )
        };
    }
}

/// Executes the instruction at RIP and moves on; `false`, with a word on stderr if it is AMX, if that cannot be.
fn step(gregs: &mut [libc::greg_t; 23]) -> bool {
    let rip = gregs[libc::REG_RIP as usize] as usize;
    // SAFETY: the CPU has just fetched these bytes as an instruction; the decoder asks for no byte behind its end.
    let mut code = (0..).map(|i| unsafe { ptr::read((rip + i) as *const u8) });
    let Some(Decoded { instruction, len }) = decode(&mut code) else {
        return false;
    };
    let next_rip = (rip + len) as u64;
    // SAFETY: the thread stands still in this handler, which never runs inside itself. The instruction's memory
    // operands are those that the thread has vouched for, by executing it.
    let done = STATE.with(|state| unsafe {
        (*state.get()).execute(instruction, &general_registers(gregs), next_rip)
    });
    match done {
        Ok(()) => gregs[libc::REG_RIP as usize] = next_rip as libc::greg_t,
        Err(fault) => complain(fault.0),
    }
    done.is_ok()
}

/// The 16 general registers in the order of their numbers in machine code.
fn general_registers(gregs: &[libc::greg_t; 23]) -> Registers {
    [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ]
    .map(|register| gregs[register as usize] as u64)
}

/// Says why on stderr, by the one call that a signal handler may use for it.
fn complain(why: &str) {
    for text in ["AMX emulator: ", why, "\n"] {
        // SAFETY: `text` is valid for its length. There is nowhere to report a failure to.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }
}
