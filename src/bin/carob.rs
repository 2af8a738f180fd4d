//! The program `carob`. See `src/cli`.

fn main() -> std::process::ExitCode {
    carob::inside::cli::main()
}
