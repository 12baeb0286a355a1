internal import Glibc

/// An open directory; closed with its last reference.
final class DirectoryHandle: Sendable {
    let descriptor: Int32
    init(_ descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }
}

/// Directories of a tree by number, opened component by component: no path is ever given to the kernel, so that trees deeper
/// than PATH_MAX work, and no symbolic link is followed.
struct DirectoryHandles {
    /// Open directories that are kept for the next use; others are opened again from the nearest kept one above.
    private static let kept = 64

    private struct Node {
        let parent: Int
        let name: [UInt8]
    }
    private var nodes: [Node]
    private let root: DirectoryHandle
    private var open: [Int: DirectoryHandle] = [:]
    private var order: [Int] = []

    /// - Parameter root: directory number 0.
    init(root: DirectoryHandle) {
        self.root = root
        nodes = [Node(parent: -1, name: [])]
    }

    /// Gives the next number to the directory `name` in directory `parent`.
    mutating func add(_ name: [UInt8], in parent: Int) -> Int {
        nodes.append(Node(parent: parent, name: name))
        return nodes.count - 1
    }

    /// - Throws: when a component is missing, is no directory (any more), or no descriptor is left.
    mutating func handle(_ number: Int) throws -> DirectoryHandle {
        var missing: [Int] = []
        var at = number
        while at != 0, open[at] == nil {
            missing.append(at)
            at = nodes[at].parent
        }
        var handle = at == 0 ? root : open[at]!
        while let next = missing.popLast() {
            let descriptor = withName(nodes[next].name) { openat(handle.descriptor, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) }
            guard descriptor >= 0 else { throw ToolError.system("directory") }
            handle = DirectoryHandle(descriptor)
            open[next] = handle
            order.append(next)
            if order.count > Self.kept { open[order.removeFirst()] = nil }
        }
        return handle
    }
}

/// `name` as a C string.
func withName<R>(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> R) -> R {
    (name + [0]).withUnsafeBytes { body($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
}
