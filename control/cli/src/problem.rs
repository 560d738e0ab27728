//! What can go wrong, and the exit status that says so.

use std::fmt;

use tonic::{Code, Status};
use xds::operator::ConnectError;

#[derive(Debug)]
pub enum Problem {
    /// The other side said no, or has no such thing.
    Refused(String),
    /// The command line or a file is wrong; nothing was asked.
    Usage(String),
    /// Nobody answers.
    Unreachable(String),
}

impl Problem {
    pub fn exit_status(&self) -> u8 {
        match self {
            Problem::Refused(_) => 1,
            Problem::Usage(_) => 2,
            Problem::Unreachable(_) => 3,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Refused(what) | Problem::Usage(what) => f.write_str(what),
            Problem::Unreachable(what) => {
                write!(
                    f,
                    "{what}; is it running, is --control (or RINGWAY_CONTROL) right, and does it speak TLS (--ca)?"
                )
            }
        }
    }
}

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Problem {
        match error {
            ConnectError::Address(_) => Problem::Usage(error.to_string()),
            ConnectError::Unreachable { .. } => Problem::Unreachable(error.to_string()),
        }
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Problem {
        // The connection broke, as it does where one side speaks TLS and the other does not.
        let broken = std::error::Error::source(&status)
            .filter(|source| source.is::<tonic::transport::Error>())
            .map(xds::endpoint::innermost);
        if let Some(why) = broken {
            return Problem::Unreachable(format!("the connection broke before there was an answer: {why}"));
        }
        match status.code() {
            Code::Unavailable => {
                Problem::Unreachable(format!("the control plane went away: {}", status.message()))
            }
            _ => Problem::Refused(status.message().to_owned()),
        }
    }
}
