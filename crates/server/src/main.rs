//! The program `sluice`; everything it does lives in the library beside it.

fn main() -> std::process::ExitCode {
    server::cli::main()
}
