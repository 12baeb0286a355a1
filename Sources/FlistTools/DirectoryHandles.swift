internal import Flist
internal import Glibc

/// An open directory; closed with its last reference.
final class DirectoryHandle: Sendable {
    let descriptor: Int32
    init(_ descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }
}

/// Directories of a tree by number, opened component by component: no path is ever given to the kernel, so that trees deeper
/// than PATH_MAX work, and no symbolic link is followed.
///
/// A directory is forgotten, and its number given out again, when it and all below it were released.
struct DirectoryHandles {
    /// Open directories that are kept for the next use; others are opened again from the nearest kept one above.
    private static let kept = 64

    private struct Node {
        var parent: Int32
        /// Its own use and one for each directory below it that was not forgotten; 0: free.
        var uses: Int32
        var name: [UInt8]
    }
    private var nodes: [Node]
    private var free: [Int32] = []
    private let root: DirectoryHandle
    private var open: [Int: DirectoryHandle] = [:]
    private var order: [Int] = []

    /// - Parameter root: directory number 0, which is never forgotten.
    init(root: DirectoryHandle) {
        self.root = root
        nodes = [Node(parent: -1, uses: 1, name: [])]
    }

    /// Gives a number to the directory `name` in directory `parent`.
    mutating func add(_ name: [UInt8], in parent: Int) -> Int {
        nodes[parent].uses += 1
        let node = Node(parent: Int32(parent), uses: 1, name: name)
        guard let number = free.popLast() else {
            nodes.append(node)
            return nodes.count - 1
        }
        nodes[Int(number)] = node
        return Int(number)
    }

    /// Nothing more is asked about `number`, but by way of directories below it.
    mutating func release(_ number: Int) {
        var at = number
        while at > 0 {
            nodes[at].uses -= 1
            guard nodes[at].uses == 0 else { return }
            if open.removeValue(forKey: at) != nil { order.removeAll { $0 == at } }
            free.append(Int32(at))
            nodes[at].name = []
            at = Int(nodes[at].parent)
        }
    }

    func name(_ number: Int) -> [UInt8] { nodes[number].name }

    /// The path from the root, without a slash in front; empty for the root.
    func path(_ number: Int) -> [UInt8] {
        var names: [[UInt8]] = []
        var at = number
        while at > 0 {
            names.append(nodes[at].name)
            at = Int(nodes[at].parent)
        }
        return Array(names.reversed().joined(separator: [UInt8(ascii: "/")]))
    }

    /// - Throws: when a component is missing, is no directory (any more), or no descriptor is left.
    mutating func handle(_ number: Int) throws -> DirectoryHandle {
        var missing: [Int] = []
        var at = number
        while at != 0, open[at] == nil {
            missing.append(at)
            at = Int(nodes[at].parent)
        }
        var handle = at == 0 ? root : open[at]!
        while let next = missing.popLast() {
            handle = try handle.below(nodes[next].name)
            open[next] = handle
            order.append(next)
            if order.count > Self.kept { open[order.removeFirst()] = nil }
        }
        return handle
    }
}

extension DirectoryHandle {
    /// The directory `name` in this one.
    func below(_ name: [UInt8]) throws -> DirectoryHandle {
        let opened = withName(name) { openat(descriptor, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) }
        guard opened >= 0 else { throw ToolError.system("directory") }
        return DirectoryHandle(opened)
    }

    /// The names in the directory in order of their bytes.
    func names() throws -> [[UInt8]] {
        let again = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard again >= 0 else { throw ToolError.system("directory") }
        guard let stream = fdopendir(again) else {
            close(again)
            throw ToolError.system("directory")
        }
        defer { closedir(stream) }
        var names: [[UInt8]] = []
        errno = 0
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                Array(UnsafeRawBufferPointer(rebasing: bytes.prefix(strnlen(bytes.baseAddress!.assumingMemoryBound(to: CChar.self), 256))))
            }
            if name != [UInt8(ascii: ".")], name != Array("..".utf8) { names.append(name) }
            errno = 0
        }
        guard errno == 0 else { throw ToolError.system("directory") }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
    }

    /// The target of the symbolic link `name`; `nil` when it cannot be read.
    func target(of name: [UInt8]) -> [UInt8]? {
        var buffer = [CChar](repeating: 0, count: 4097)
        let count = withName(name) { readlinkat(descriptor, $0, &buffer, buffer.count) }
        guard count > 0, count < buffer.count else { return nil }
        return buffer.prefix(count).map { UInt8(bitPattern: $0) }
    }
}

/// `name` as a C string.
func withName<R>(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> R) -> R {
    (name + [0]).withUnsafeBytes { body($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
}
