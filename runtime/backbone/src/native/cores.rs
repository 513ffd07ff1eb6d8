//! A core for each thread of a team that has as many threads as there are cores.
//!
//! Left to itself the kernel at times puts two of them on one core, while short tasks of others hold the second one; they
//! then wait for each other's turns at every barrier, and a token that takes 5 ms takes 30. Where the team has fewer
//! threads than there are cores, the kernel is free to choose.

/// The core of a team's thread, by its number; none where the team doesn't fill the cores this process may use.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a set of cores is written through libc")]
pub fn keep(index: usize, threads: usize) {
    // The first thread's, since the calling one may have a core of an earlier team.
    let cores = allowed(std::process::id().cast_signed());
    if threads < 2 || cores.len() != threads {
        return;
    }
    let Some(&core) = cores.get(index) else { return };
    // SAFETY: a set of cores is plain bits, for which zeros are a value.
    let mut own: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is below the set's size.
    unsafe { libc::CPU_SET(core, &mut own) };
    // SAFETY: 0 is the calling thread; the kernel reads a set that is alive. A refusal leaves the thread as it is.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const own) };
}

/// Cores that a thread may use; 0 is the calling one.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a set of cores is read through libc")]
fn allowed(thread: libc::pid_t) -> Vec<usize> {
    // SAFETY: a set of cores is plain bits, for which zeros are a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes no more than the size of a set that is alive.
    if unsafe { libc::sched_getaffinity(thread, size_of::<libc::cpu_set_t>(), &raw mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: the number is below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Elsewhere the system chooses.
#[cfg(not(target_os = "linux"))]
pub fn keep(_: usize, _: usize) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{allowed, keep};

    #[test]
    fn a_full_team_has_a_core_each_and_a_smaller_one_is_free() {
        let cores = allowed(0);
        let left = |index, threads| {
            let thread = std::thread::spawn(move || {
                keep(index, threads);
                allowed(0)
            });
            thread.join().expect("a thread that ends")
        };
        let all = cores.len();
        for (index, &core) in cores.iter().enumerate() {
            assert_eq!(left(index, all), [core]);
        }
        assert_eq!(left(0, all + 1), cores);
        assert_eq!(left(0, 1), cores);
    }
}
