pub mod logs;
pub fn start(_: &crate::store::Layout, _: &str) -> crate::Result<()> {
    Ok(())
}
/// `carob monitor ...`: what [`start`] runs, with its command line.
pub fn main(_: Vec<std::ffi::OsString>) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
