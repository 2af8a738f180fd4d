//! The program `carob`. See [`carob::cli`].

fn main() -> std::process::ExitCode {
    carob::cli::main()
}
