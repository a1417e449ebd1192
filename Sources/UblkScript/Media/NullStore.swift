/// A store of nothing: reads leave the data as it is, writes vanish.
///
/// For devices whose handlers answer every read, and for measuring what a queue costs.
struct NullStore {}
