/// Shell completion of a script argument.
enum ScriptCompletion {
    /// The shipped scripts, `.lua` files and folders that begin with `prefix`.
    static func words(_ prefix: String) -> [String] {
        let slash = prefix.lastIndex(of: "/")
        let folder = slash.map { String(prefix[...$0]) } ?? ""
        let files = DirectoryListing.names(folder.isEmpty ? "." : folder).compactMap { name in
            let path = folder + name
            if name.hasPrefix(".") { return String?.none }
            return DirectoryListing.isDirectory(path)
                ? path + "/" : name.hasSuffix(".lua") ? path : nil
        }
        let shipped = slash == nil ? ShippedScript.all.map(\.name) : []
        return (shipped + files).filter { $0.hasPrefix(prefix) }.sorted()
    }
}
