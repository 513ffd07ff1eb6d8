//! Weights and turns of threads beside an engine which keeps all cores busy.
//!
//! The engine's threads wait for each other many times in a step, so each moment that one of them has to give away is lost
//! to all. Answering a call takes a fraction of a millisecond, which should come at once; answering thousands of them a
//! second, each cheap, must not stop every tenant's tokens. So these threads ask for short turns, which the kernel gives
//! early, and have a low weight, which bounds their share while the engine works. Threads inherit the weight of the one that
//! makes them: those that load, and with them the engine's, are made before ([`super::loaders`]).

/// Their niceness: a tenth of the usual weight.
const NICE: i32 = 10;

/// Their turn, nanoseconds, where the kernel takes such wishes (Linux 6.12): its shortest.
const TURN_NS: u64 = 100_000;

/// What `sched_setattr` reads.
#[cfg(target_os = "linux")]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Makes the calling thread one that answers. A kernel that refuses leaves it as it is, and nothing depends on it.
pub fn answering() {
    ask(NICE, TURN_NS);
}

/// Makes the calling thread one that takes only what all others leave: for a benchmark's callers that stand for another
/// machine's. Not for work of the host's own: it may hold locks that others wait for.
pub fn idling() {
    ask(19, 0);
}

/// Does work that a caller waits for in short turns, which come early, with the weight that the thread has.
pub fn soon<T>(work: impl FnOnce() -> T) -> T {
    // A panic ends it too: threads that this one makes later inherit its turns.
    let turns = UsualTurnsAgain(niceness());
    ask(turns.0, TURN_NS);
    work()
}

/// Gives the calling thread the kernel's turns back; holds its weight.
struct UsualTurnsAgain(i32);

impl Drop for UsualTurnsAgain {
    fn drop(&mut self) {
        ask(self.0, 0);
    }
}

/// Asks for a weight and a turn of the calling thread; a turn of 0 is the kernel's own.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "libc has no function for this call")]
fn ask(nice: i32, turn_ns: u64) {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice,
        priority: 0,
        runtime: turn_ns,
        deadline: 0,
        period: 0,
    };
    // SAFETY: thread 0 is the calling one; the kernel reads `size` bytes of a struct that is alive and writes nothing.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// The calling thread's.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a system call")]
fn niceness() -> i32 {
    // SAFETY: reads a number of the calling thread, which is what 0 stands for.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Elsewhere threads are left as they are.
#[cfg(not(target_os = "linux"))]
fn ask(_: i32, _: u64) {}

#[cfg(not(target_os = "linux"))]
fn niceness() -> i32 {
    0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{NICE, answering, soon};
    use crate::live::loaders::Loaders;

    fn nice() -> i32 {
        let text = std::fs::read_to_string("/proc/thread-self/stat").expect("this thread's own file");
        // The name may have spaces; niceness is field 19, the 17th after it.
        let after = text.rsplit_once(") ").expect("a name in parentheses").1;
        after.split(' ').nth(16).expect("so many fields").parse().expect("a number")
    }

    #[test]
    fn short_turns_leave_the_weight() {
        let usual = nice();
        assert_eq!((soon(nice), nice()), (usual, usual));
        let answers = std::thread::spawn(|| {
            answering();
            (nice(), soon(nice), nice())
        });
        let low = NICE.max(usual);
        assert_eq!(answers.join().expect("a thread that ends"), (low, low, low));
    }

    #[test]
    fn threads_that_answer_yield_and_those_that_load_do_not() {
        let usual = nice();
        let loaders = Loaders::start(1).expect("a thread");
        let answers = std::thread::spawn(move || {
            answering();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            (nice(), runtime.block_on(loaders.run(|| Ok(nice()))))
        });
        assert_eq!(answers.join().expect("a thread that ends"), (NICE.max(usual), Ok(usual)));
    }
}
