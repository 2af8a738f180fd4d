//! The program `carob-oci`. See `src/oci_cli`.

fn main() -> std::process::ExitCode {
    carob::inside::oci_cli::main()
}
