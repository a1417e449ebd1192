/// A store without bytes: reads leave the IO's buffer unchanged, writes are dropped.
///
/// For devices whose handlers redirect or answer every read, and for measuring the cost of a queue.
struct NullStore {}
