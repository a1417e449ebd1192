import Glibc

/// A user in words.
enum UserName {
    /// `bob (1001)`, or `user 1001` when nothing tells the name.
    static func text(_ user: UInt32) -> String {
        guard let entry = unsafe getpwuid(user), let name = unsafe entry.pointee.pw_name else {
            return "user \(user)"
        }
        return unsafe "\(String(cString: name)) (\(user))"
    }
}
