//! A wake finds its way: to the ready list of the core that runs here, or into the mailbox of a core that runs elsewhere.

use std::sync::Arc;
use std::task::Wake;

use crate::ready::Signal;
use crate::scope;

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.raise() && scope::try_with(self.core, |scope| scope.make_ready(self.task)).is_none() {
            self.mailbox.post(self.task);
        }
    }
}
