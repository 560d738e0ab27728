//! Page faults of a burst that comes after a quiet time, without and with [`heap::keep`].

use std::time::Duration;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap;

/// As the state of a thousand connections.
const PIECES: usize = 2_000;
const PIECE_BYTES: usize = 8 << 10;
/// Longer than mimalloc keeps free memory by default.
const QUIET: Duration = Duration::from_millis(2_500);

#[test]
fn a_burst_after_a_quiet_time_finds_its_memory_where_it_was() {
    burst();
    let gone = faults_of_a_later_burst();
    assert!(gone > 100, "control: by default memory went back to the kernel, {gone} faults");
    heap::keep();
    burst();
    let kept = faults_of_a_later_burst();
    assert!(kept < gone / 10, "{kept} faults, {gone} without");
}

fn burst() {
    let pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| vec![7; PIECE_BYTES]).collect();
    assert!(pieces.iter().all(|piece| piece[PIECE_BYTES - 1] == 7));
}

fn faults_of_a_later_burst() -> u64 {
    std::thread::sleep(QUIET);
    // What is due goes back at the next call.
    burst();
    std::thread::sleep(QUIET);
    let before = faults();
    burst();
    faults() - before
}

/// Minor faults of this thread (proc(5), field 10 of stat).
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux says what a thread did");
    let after_name = stat.rsplit(')').next().expect("there is a last part");
    after_name.split_whitespace().nth(7).and_then(|field| field.parse().ok()).expect("a number of faults")
}
