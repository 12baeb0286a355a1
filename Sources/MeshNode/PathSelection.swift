internal import ChunkModel
internal import Flist

/// The chunks of the files that match patterns.
enum PathSelection {
    /// Indices into the flist's chunks, in order. Blocking.
    ///
    /// - Parameter patterns: matched against the whole path from `/`; `*` stands for anything, slashes too, `?` for one byte. A pattern
    ///   that names a directory means all below it.
    static func chunks(of flist: OpenFlist, matching patterns: [String]) throws -> [Int] {
        let patterns = patterns.map { pattern in
            var bytes = Array(pattern.utf8)
            if bytes.first != UInt8(ascii: "/"), bytes.first != UInt8(ascii: "*") { bytes.insert(UInt8(ascii: "/"), at: 0) }
            while bytes.count > 1, bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
            return bytes
        }
        var indices: Set<Int> = []
        var walker = FlistWalker(flist.file, below: flist.file.root())
        while let item = try walker.next() {
            guard case .entry(let visit) = item, visit.entry.isFile else { continue }
            let path = visit.path
            guard patterns.contains(where: { matches(path, $0) || matches(path, $0 + Array("/*".utf8)) }) else { continue }
            for block in try flist.file.blocks(of: visit.entry) {
                if let index = flist.index(of: block.id) { indices.insert(index) }
            }
        }
        return indices.sorted()
    }

    /// Greedy with one point to go back to: linear in the path for each star.
    static func matches(_ path: [UInt8], _ pattern: [UInt8]) -> Bool {
        var (p, s) = (0, 0)
        var star: (pattern: Int, path: Int)?
        while s < path.count {
            if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
                star = (p, s)
                p += 1
            } else if p < pattern.count, pattern[p] == UInt8(ascii: "?") || pattern[p] == path[s] {
                p += 1
                s += 1
            } else if let back = star {
                star = (back.pattern, back.path + 1)
                p = back.pattern + 1
                s = back.path + 1
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
}
