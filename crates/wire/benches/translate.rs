//! What translation costs: requests of three sizes, and each chunk of a stream.
fn main() {}
