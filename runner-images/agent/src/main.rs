//! `custody-agent`: exit code 0 only after a result line, 1 after an error line, 2 for a command line that cannot be
//! read. Must never print anything but the lines of `events`.

use custody_agent::{
    args::{USAGE, parse},
    events::{Event, log, say},
    run::run,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match parse(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())) {
        Ok(args) => args,
        Err(why) => {
            log(&format!("{why}\n{USAGE}"));
            // The log has it already, should nobody read this line.
            let _ = say(&Event::Error { code: "usage", message: &why });
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log(&format!("{}: {}", failure.code, failure.message));
            // As above.
            let _ = say(&Event::Error { code: &failure.code, message: &failure.message });
            ExitCode::FAILURE
        }
    }
}
