//! Every seed that failed once, by what it found. A plan stays as it was drawn then: `scripts/sim --plan SEED` prints it, and
//! the failing run its shortest form; the output is the file in `plans/`, and a line here names it.

use sim::seed::{Control, Conversation, Family, Fault, Manner, Path, Plan, Side, play};

macro_rules! plans {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {$(
        $(#[doc = $doc])*
        #[test]
        fn $name() {
            let plan = include!(concat!("plans/", stringify!($name), ".plan"));
            assert_eq!(play(&plan, false).failure, None);
        }
    )*};
}

plans! {
    /// A writer of more than the smallest buffer was woken for ever and given nothing, while smallest buffers were there.
    writers_without_memory,
    /// Text behind the segment that proves a SYN cookie came first, and was answered by a reset.
    cookie_overtaken_by_text,
    /// A bare acknowledgement did.
    cookie_overtaken_by_an_acknowledgement,
    /// A late copy of the segment that proves a SYN cookie opened the connection once more, after its end.
    cookie_replayed,
    /// A SYN was answered by a cookie, and its copy, which found room, with another sequence number.
    half_open_after_a_cookie,
    /// That connection, too, was opened once more by a late copy after its end.
    half_open_of_a_cookie_replayed,
    /// A recovery ended after its reduction was undone, and the window became as wide as the threshold that there was not.
    recovery_without_a_threshold,
}
