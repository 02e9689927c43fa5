//! What each thread is to the scheduler of the machine: hints that need no rights, and change no result where they are refused.

/// What follows on its thread, and on the threads that it starts, can wait: those that handle messages go first.
#[expect(
    unsafe_code,
    reason = "setting a thread's nice value has no safe door in std"
)]
pub(crate) fn yield_to_workers() {
    /// About a tenth of the share of a thread that is not nice.
    #[cfg(target_os = "linux")]
    const NICE: i32 = 10;
    // SAFETY: the call takes and returns plain numbers; 0 stands for the calling thread on Linux.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}

/// The thread is one of those that an epoch passes through. Each has little to do at a time and the next waits for it: it must not
/// wait itself until another thread has used its slice up, which are milliseconds.
///
/// Since Linux 6.12 a thread may ask for slices of its own length (`sched_setattr(2)`); a shorter one has its turn earlier, and no
/// more of the processor in all. Older kernels ignore it.
#[expect(
    unsafe_code,
    reason = "setting a thread's slice has no safe door in std"
)]
pub(crate) fn take_short_turns() {
    #[cfg(target_os = "linux")]
    {
        /// The shortest slice that there is.
        const SLICE_NS: u64 = 100_000;
        // SAFETY: the structure consists of plain numbers, for each of which zero is a value.
        let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
        attributes.size = size_of::<libc::sched_attr>() as u32;
        attributes.sched_policy = libc::SCHED_OTHER as u32;
        attributes.sched_runtime = SLICE_NS;
        // SAFETY: the kernel reads a structure that lives until the call returns; 0 stands for the calling thread.
        unsafe {
            libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
        }
    }
}
