//! The command line: what is typed, and what is printed. All work is done elsewhere.

mod args;
mod books;
mod demo;
mod doctor;
mod exec;
mod init;
mod ledger;
mod net;
mod output;
mod prices;
mod service;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use output::Failure;

/// Runs the command line of this process: 0 for success, 1 for failure, 2 for what cannot be understood.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are a success; the rest goes to stderr.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(&cli) {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli) -> Result<ExitCode, Failure> {
    let config = cli.config.as_deref();
    match &cli.command {
        Command::Serve => service::serve(config)?,
        Command::Check { reference: true, .. } => output::print(&crate::config::reference()),
        Command::Check { json, .. } => service::check(config, *json)?,
        Command::Version { json } => service::version(*json)?,
        Command::Mock { listen } => service::mock(*listen)?,
        Command::Demo { json } => return demo::run(*json),
        Command::Init(args) => init::run(config, args)?,
        Command::Exec(args) => return exec::run(config, args),
        Command::Doctor { json } => return doctor::run(config, *json),
        Command::Prices { command } => prices::run(config, command)?,
        command => books::run(config, command)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
