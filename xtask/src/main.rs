//! The one door for every chore of the repository.

fn main() {}
