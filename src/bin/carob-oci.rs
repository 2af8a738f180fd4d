//! The program `carob-oci`. See [`carob::oci_cli`].

fn main() -> std::process::ExitCode {
    carob::oci_cli::main()
}
