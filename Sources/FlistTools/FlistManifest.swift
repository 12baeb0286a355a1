internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
public import Flist
internal import Glibc

/// An flist as lines of JSON, one an entry, sorted by path bytes: for comparing flists and trees. Strings are ASCII with
/// escapes; a byte that is not UTF-8 is written as U+DC80 to U+DCFF, as Python does.
public enum FlistManifest {
    /// Reads everything, contents too, and holds all lines in memory.
    ///
    /// - Returns: the lines, and what had to be left out.
    public static func lines(_ flist: FlistFile, blocks: @escaping PlainBlockSource) async throws -> (lines: [String], problems: [String]) {
        let threads = BlockingThreads(count: 2)
        var lines: [(path: [UInt8], line: String)] = [([UInt8(ascii: "/")], line(flist.root(), path: [UInt8(ascii: "/")], hash: nil))]
        var problems: [String] = []
        var walker = FlistWalker(flist, below: flist.root())
        while true {
            let current = walker
            let (items, moved) = try await threads.run {
                var walker = current
                var items: [FlistWalker.Item] = []
                while items.count < 512, let item = try walker.next() { items.append(item) }
                return (items, walker)
            }
            walker = moved
            for item in items {
                switch item {
                case .problem(let problem): problems.append(problem.line)
                case .entry(let visit):
                    do {
                        let hash = visit.entry.isFile ? try await hash(visit.entry, flist, threads, blocks) : nil
                        lines.append((visit.path, line(visit.entry, path: visit.path, hash: hash)))
                    } catch {
                        problems.append("\(FlistPath.quoted(visit.path)): \(error)")
                    }
                }
            }
            if items.count < 512 { break }
        }
        return (lines.sorted { $0.path.lexicographicallyPrecedes($1.path) }.map(\.line), problems)
    }

    private static func hash(_ entry: FlistEntry, _ flist: FlistFile, _ threads: BlockingThreads, _ blocks: @escaping PlainBlockSource)
        async throws -> String
    {
        let refs = try await threads.run { try flist.blocks(of: entry) }
        let reader = FileReader(size: entry.size, blockCount: refs.count) { try await blocks(refs[$0]) }
        let stream = Blake2bStream()
        var offset: UInt64 = 0
        while offset < entry.size {
            let slices = try await reader.read(offset: offset, length: ChunkLimits.blockBytes)
            for slice in slices {
                slice.withBytes { stream.update($0) }
                offset += UInt64(slice.range.count)
            }
        }
        return stream.finish().hex
    }

    /// One entry; the root is a directory like others.
    static func line(_ entry: FlistEntry, path: [UInt8], hash: String?) -> String {
        var fields: [(String, String)] = []
        if let hash { fields.append(("blake2b", "\"\(hash)\"")) }
        fields.append(("gid", "\(entry.gid)"))
        let mode = String(entry.permissions, radix: 8)
        fields.append(("mode", "\"" + String(repeating: "0", count: max(0, 4 - mode.count)) + mode + "\""))
        fields.append(("mtime", "\(entry.mtime)"))
        fields.append(("path", json(path)))
        let type: String
        var target: [UInt8]?
        switch entry.kind {
        case .file: type = "file"
        case .directory: type = "dir"
        case .symlink(let bytes): (type, target) = ("symlink", bytes)
        case .fifo: type = "fifo"
        case .socket: type = "socket"
        case .charDevice(let major, let minor):
            type = "chrdev"
            fields.append(("rdev", "[\(major), \(minor)]"))
        case .blockDevice(let major, let minor):
            type = "blkdev"
            fields.append(("rdev", "[\(major), \(minor)]"))
        }
        fields.append(("size", "\(entry.size)"))
        if let target { fields.append(("target", json(target))) }
        fields.append(("type", "\"\(type)\""))
        fields.append(("uid", "\(entry.uid)"))
        return "{" + fields.map { "\"\($0.0)\": \($0.1)" }.joined(separator: ", ") + "}"
    }

    private static func json(_ bytes: [UInt8]) -> String {
        var out: [UInt8] = [UInt8(ascii: "\"")]
        func escape(_ unit: UInt16) {
            let hex = String(unit, radix: 16)
            out += ("\\u" + String(repeating: "0", count: 4 - hex.count) + hex).utf8
        }
        var position = 0
        while position < bytes.count {
            let byte = bytes[position]
            if (0x20..<0x7f).contains(byte), byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") {
                out.append(byte)
                position += 1
                continue
            }
            var rest = bytes[position...].makeIterator()
            var decoder = UTF8()
            guard case .scalarValue(let scalar) = decoder.decode(&rest) else {
                escape(0xdc00 + UInt16(byte))
                position += 1
                continue
            }
            position += UTF8.width(scalar)
            switch scalar {
            case "\"": out += "\\\"".utf8
            case "\\": out += "\\\\".utf8
            case "\n": out += "\\n".utf8
            case "\r": out += "\\r".utf8
            case "\t": out += "\\t".utf8
            case "\u{8}": out += "\\b".utf8
            case "\u{c}": out += "\\f".utf8
            default: for unit in UTF16.encode(scalar)! { escape(unit) }
            }
        }
        return String(decoding: out, as: UTF8.self) + "\""
    }
}
