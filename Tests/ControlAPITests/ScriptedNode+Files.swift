import ChunkModel
import ControlModel
import Glibc
import Synchronization

extension ScriptedNode {
    /// `/dir` and what is in it, and a long directory; everything else is the file.
    static let children = [
        ServedChild(name: Array("a & b <i>\"'%".utf8), kind: .file, size: 7, mtime: 784_111_777),
        ServedChild(name: [0xFF, 0x0A, UInt8(ascii: "x")], kind: .file, size: 1, mtime: -1),
        ServedChild(name: Array("sub:dir".utf8), kind: .directory, size: 0, mtime: 0),
        ServedChild(name: Array("null".utf8), kind: .other("device"), size: 0, mtime: 0),
    ]
    static let longCount = 20_000

    struct Directory: ServedDirectory {
        let isLong: Bool
        var mtime: Int64 { 784_111_777 }
        func listing() -> any ServedListing { Listing(isLong: isLong) }
    }

    final class Listing: ServedListing {
        private let left: Mutex<[[ServedChild]]>

        init(isLong: Bool) {
            guard isLong else {
                left = Mutex([ScriptedNode.children])
                return
            }
            let names = (0..<ScriptedNode.longCount).map { Array("file-\($0)".utf8) }
            left = Mutex(
                stride(from: 0, to: names.count, by: 1000).map { start in
                    names[start..<start + 1000].map { ServedChild(name: $0, kind: .file, size: 0, mtime: 0) }
                })
        }

        func next() async throws -> [ServedChild]? { left.withLock { $0.isEmpty ? nil : $0.removeFirst() } }
    }

    func entry(_ flist: String, path: [UInt8]) async throws(NodeError) -> ServedEntry {
        switch String(decoding: path, as: UTF8.self).split(separator: "/").first {
        case nil, "dir": return .directory(Directory(isLong: false))
        case "long": return .directory(Directory(isLong: true))
        case "absent": throw .notFound("no such file")
        case "ready": return .file(File(isReady: true))
        case "failing": return .file(File(isFailing: true))
        case "stored": return .file(File(isStored: true))
        default: return .file(File())
        }
    }

    func file(_ flist: String, path: [UInt8]) async throws(NodeError) -> any ServedFile { File() }

    func kept(_ flist: String, path: [UInt8]) -> (any ServedFile)? {
        switch String(decoding: path, as: UTF8.self) {
        case "/kept.txt": File(isStored: true)
        case "/broken": File(isStored: true, descriptor: Self.brokenDescriptor)
        default: nil
        }
    }

    /// The content, in a file without a name.
    static let storedDescriptor: Int32 = {
        var path = Array("/tmp/chunkmesh-stored-XXXXXX".utf8CString)
        let fd = mkstemp(&path)
        unlink(path)
        precondition(content.withUnsafeBytes { write(fd, $0.baseAddress, $0.count) } == content.count)
        return fd
    }()
    /// It can be opened, and not be read: a directory.
    static let brokenDescriptor: Int32 = Glibc.open("/tmp", O_RDONLY | O_CLOEXEC)

    static let trace = Trace(
        id: "7", flist: "known", digest: "d", chunks: 2, recorded: 1, seconds: 1, ended: nil,
        entries: [.init(index: 1, chunk: "c", seconds: 0.5)], next: 1)
    func startTrace(_ request: TraceRequest) async throws(NodeError) -> Trace { Self.trace }
    func trace(_ id: String, after: Int, wait: Duration) async throws(NodeError) -> Trace {
        guard id == "7" else { throw .notFound("no trace has the id \(id)") }
        return Self.trace
    }
    func endTrace(_ id: String, after: Int) async throws(NodeError) -> Trace { try await trace(id, after: after, wait: .zero) }
    func traces() async -> TraceList { TraceList(traces: [Self.trace]) }
}

extension ScriptedNode.File {
    func stored(at offset: UInt64, atMost length: Int) -> StoredBytes? {
        guard isStored, offset < size else { return nil }
        return StoredBytes(
            descriptor: descriptor ?? ScriptedNode.storedDescriptor, range: offset..<min(size, offset + UInt64(length)), owner: self)
    }

    func store(_ range: Range<UInt64>) async throws -> Bool { isStored }

    func ready(at offset: UInt64, atMost length: Int) -> (buffer: ChunkBuffer, range: Range<Int>)? {
        guard isReady, Int(offset) < ScriptedNode.content.count else { return nil }
        let end = min(Int(offset) - Int(offset) % 500_000 + 500_000, ScriptedNode.content.count, Int(offset) + min(length, 1 << 30))
        return (ChunkBuffer(copying: ScriptedNode.content[Int(offset)..<end]), 0..<end - Int(offset))
    }
}
