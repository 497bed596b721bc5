//! Signals to the worker as events. PID 1 gets no default action for a signal, so a stop that is not handled here would
//! only end with KILL. Must never run work in a signal handler: the handler writes one byte.

use crate::event::Event;
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    low_level::pipe,
};
use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::mpsc::SyncSender,
    thread,
};

/// Sends [`Event::Terminate`] for TERM and INT, [`Event::ChildEnded`] for CHLD. Several signals may become one event.
///
/// Errors: when a signal cannot be registered.
pub fn listen(events: &SyncSender<Event>) -> io::Result<()> {
    forward(&[SIGTERM, SIGINT], events.clone(), || Event::Terminate)?;
    forward(&[SIGCHLD], events.clone(), || Event::ChildEnded)
}

fn forward(signals: &[i32], events: SyncSender<Event>, event: fn() -> Event) -> io::Result<()> {
    let (mut reader, writer) = UnixStream::pair()?;
    for signal in signals {
        pipe::register(*signal, writer.try_clone()?)?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        // 512 bytes at once: a burst of children that end is one look at all of them.
        let mut bytes = [0; 512];
        while reader.read(&mut bytes).is_ok_and(|count| count > 0) && events.send(event()).is_ok() {}
    })?;
    Ok(())
}
