//! Threads on which passwords are hashed: tens of milliseconds of processor time for whoever asks,
//! strangers too, so they run behind the threads of those who are in. It knows no users.

use tokio::sync::oneshot;

use super::limits::HASHING_NICE;

/// Runs what hashes on a thread of its own, whose processor time others come before; to its end, even
/// where nobody waits for it any more. The caller bounds how many there are. `None`: there is no
/// thread for it.
pub async fn run<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, hashed) = oneshot::channel();
    let work = move || {
        step_back();
        let _ = done.send(what());
    };
    // To begin a thread takes a thousandth of the time of a hash.
    let thread = std::thread::Builder::new().name("hashing".to_owned());
    thread.spawn(work).ok()?;
    hashed.await.ok()
}

/// Lets others come before the calling thread. Where the system does not, it hashes all the same.
fn step_back() {
    // SAFETY: sets the nice value of the calling thread, 0, and nothing else.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, HASHING_NICE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let behind_name = stat.rsplit(')').next().unwrap();
        let field = behind_name.split_whitespace().nth(16).unwrap();
        field.parse().unwrap()
    }

    #[tokio::test]
    async fn who_hashes_lets_others_come_first_and_they_stay_as_they_were() {
        let before = nice();
        assert_eq!(run(nice).await, Some(HASHING_NICE.max(before)));
        assert_eq!(nice(), before);
    }
}
