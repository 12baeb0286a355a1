extension FlistFile {
    /// Bytes of a path, all links put in, beyond which it is not followed.
    static let maxPathBytes = 1 << 20

    /// The entry at `path`, which starts at the root with or without a slash; `..` never leaves the root, and links are followed
    /// inside the flist only (an absolute target starts at the flist's root).
    ///
    /// - Parameter followLinks: whether a link in last place is followed too; those before it always are.
    /// - Throws: `notFound`, `notDirectory`, `linkLoop`, `badEntry`.
    public func resolve(_ path: [UInt8], followLinks: Bool = true) throws(FlistError) -> FlistEntry {
        let shown = FlistPath.quoted(path)
        guard !path.contains(0), path.count <= Self.maxPathBytes else { throw FlistError(.notFound, "\(shown): no such path") }
        // What is still to be walked, last component first; a stack instead of recursion, whatever the links say.
        var rest = Array(FlistPath.components(path).reversed())
        var bytes = path.count
        var trail: [FlistEntry] = [root()]
        var links = 0
        // A slash at the end asks for a directory, and so for what a link leads to.
        var mustBeDirectory = path.last == UInt8(ascii: "/")

        while let component = rest.popLast() {
            let directory = trail[trail.count - 1]
            guard directory.isDirectory else {
                throw FlistError(.notDirectory, "\(shown): \(FlistPath.quoted(directory.name)) is not a directory")
            }
            if component == [UInt8(ascii: ".")] { continue }
            if component == Array("..".utf8) {
                if trail.count > 1 { trail.removeLast() }
                continue
            }
            guard let entry = try find(component, in: directory.ino) else {
                throw FlistError(.notFound, "\(shown): no such file or directory")
            }
            if case .symlink(let target) = entry.kind, followLinks || !rest.isEmpty || mustBeDirectory {
                links += 1
                bytes += target.count
                guard links <= Self.maxLinks, bytes <= Self.maxPathBytes else {
                    throw FlistError(.linkLoop, "\(shown): too many levels of symbolic links")
                }
                if target.first == UInt8(ascii: "/") { trail.removeLast(trail.count - 1) }
                if rest.isEmpty, target.last == UInt8(ascii: "/") { mustBeDirectory = true }
                rest.append(contentsOf: FlistPath.components(target).reversed())
                continue
            }
            trail.append(entry)
        }
        let entry = trail[trail.count - 1]
        if mustBeDirectory, !entry.isDirectory { throw FlistError(.notDirectory, "\(shown): not a directory") }
        return entry
    }
}
