use super::output::Failure;
pub fn run(_json: bool) -> Result<std::process::ExitCode, Failure> {
    todo!()
}
