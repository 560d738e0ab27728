//! `ringway`: the operator's command.
//!
//! Exit status: 0 done, 1 refused or not found, 2 wrong usage (also: a file that cannot be read), 3 the control plane or
//! data plane cannot be reached.
#![forbid(unsafe_code)]

mod apply;
mod authority;
mod capture;
mod columns;
mod delete;
mod describe;
mod files;
mod flags;
mod identities;
mod machine;
mod objects;
mod print;
mod problem;
mod reach;
mod status;

use std::process::ExitCode;

use clap::Parser;
use flags::{Command, Flags};
use problem::Problem;
use reach::Reach;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(flags)),
        Err(error) => Err(Problem::Refused(format!("cannot start: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("ringway: {problem}");
            ExitCode::from(problem.exit_status())
        }
    }
}

async fn run(flags: Flags) -> Result<(), Problem> {
    let reach = &Reach::new(flags.reach);
    match flags.command {
        Command::Apply(apply) => apply::run(reach, apply).await,
        Command::Get(get) => objects::run(reach, get).await,
        Command::Describe(describe) => describe::run(reach, describe).await,
        Command::Delete(delete) => delete::run(reach, delete).await,
        Command::Status(status) => status::run(reach, status).await,
        Command::Node(node) => identities::node(reach, node).await,
        Command::Operator(operator) => identities::operator(reach, operator).await,
        Command::Ca(ca) => authority::run(reach, ca).await,
        Command::Audit { lines } => authority::audit(reach, lines).await,
        Command::Defaults => print::out(&print::defaults()),
        Command::Capture(capture) => capture::run(capture).await,
        Command::Host(host) => machine::run(host).await,
    }
}
