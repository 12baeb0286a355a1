internal import SQLiteFile

/// A tree that is made of layers, of which upper ones hide what lies below: layers of an image, or flists that are merged.
///
/// **Layers come from the top downwards**, so that an entry which will be hidden is known to be when it comes, and its content need not
/// be encoded. Nothing is looked up but names in directories: no symbolic link is followed, no path leads anywhere.
///
/// Rows lie in a scratch database; memory does not grow with the tree.
final class LayerTree {
    enum Kind: Int64 {
        /// Holds marks only, and is no entry (unless a lower layer makes it one).
        case nothing = 0
        case directory = 1
        case file = 2
        case symlink = 3
        case fifo = 4
        case socket = 5
        case charDevice = 6
        case blockDevice = 7
    }

    /// What an entry is, apart from its name and place.
    struct Entry {
        var kind: Kind
        var permissions: UInt16
        var uid: UInt32
        var gid: UInt32
        var size: UInt64 = 0
        var mtime: Int64
        var ctime: Int64?
        var rdev: UInt64 = 0
        var target: [UInt8]?
        /// Whatever the caller finds a file's blocks by.
        var content: Int64 = 0
    }

    struct Node {
        var id: Int64
        var kind: Kind
        /// The layer that it first came with.
        var top: Int64
        /// The layer that its attributes are of; 0 for a directory that is only known from entries below it.
        var attributes: Int64
        /// Layers below this number add nothing to the directory.
        var closed: Int64
        /// Layers below this number do not make the entry, nor give it attributes.
        var selfClosed: Int64
        var content: Int64

        /// Whether entries of `layer` in this directory are seen.
        func isOpen(to layer: Int64) -> Bool { layer >= closed }
    }

    /// What became of an entry.
    enum Placed {
        /// It is in the tree now, under this number.
        case new(Int64)
        /// It took the place of an entry of its own layer, which had the first number; it has the second.
        case replaced(Int64, Int64)
        /// A directory that was there already, from this or an upper layer.
        case united(Int64)
        /// An upper layer hides it.
        case hidden
        /// Its own layer says something else about it, or about one of the directories that it lies in.
        case conflict
    }

    static let root: Int64 = 1
    private static let schema = """
        CREATE TABLE node (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL,
            top INTEGER NOT NULL, attributes INTEGER NOT NULL, closed INTEGER NOT NULL, self_closed INTEGER NOT NULL,
            perms INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL,
            ctime INTEGER, rdev INTEGER NOT NULL, target BLOB, content INTEGER NOT NULL, UNIQUE (parent, name));
        """
    private static let entryColumns = "kind, perms, uid, gid, size, mtime, ctime, rdev, target, content"
    private static let nodeColumns = "id, kind, top, attributes, closed, self_closed, content"

    private let scratch: ScratchDatabase
    private let byName: SQLiteStatement
    private let byID: SQLiteStatement
    private let insert: SQLiteStatement
    private let fill: SQLiteStatement
    private let close: SQLiteStatement
    private let children: SQLiteStatement
    private let whole: SQLiteStatement
    private let drop: SQLiteStatement
    private var nextID: Int64 = 2

    init() throws {
        scratch = try ScratchDatabase(schema: Self.schema)
        byName = try scratch.prepare("SELECT \(Self.nodeColumns) FROM node WHERE parent = ? AND name = ?")
        byID = try scratch.prepare("SELECT \(Self.nodeColumns) FROM node WHERE id = ?")
        insert = try scratch.prepare(
            "INSERT INTO node (id, parent, name, kind, top, attributes, closed, self_closed, perms, uid, gid, size, mtime, rdev, content)"
                + " VALUES (?,?,?,?,?,0,?,?,493,0,0,0,0,0,0)")
        fill = try scratch.prepare(
            "UPDATE node SET kind=?, top=?, attributes=?, perms=?, uid=?, gid=?, size=?, mtime=?, ctime=?, rdev=?, target=?, content=?"
                + " WHERE id = ?")
        close = try scratch.prepare("UPDATE node SET closed = max(closed, ?1), self_closed = max(self_closed, ?2) WHERE id = ?3")
        children = try scratch.prepare(
            "SELECT name, id, \(Self.entryColumns), top FROM node"
                + " WHERE parent = ? AND name > ? AND kind <> 0 ORDER BY name LIMIT ?")
        whole = try scratch.prepare("SELECT \(Self.entryColumns) FROM node WHERE id = ?")
        drop = try scratch.prepare("DELETE FROM node WHERE id = ?")
        try add(LayerTree.root, parent: 0, name: [], kind: .directory, layer: 0)
    }

    // MARK: Looking

    func node(_ id: Int64) throws -> Node? {
        byID.bind(id, at: 1)
        defer { byID.reset() }
        return try byID.step() ? Self.node(byID) : nil
    }

    func find(_ name: [UInt8], in parent: Int64) throws -> Node? {
        byName.bind(parent, at: 1)
        byName.bind(blob: name, at: 2)
        defer { byName.reset() }
        return try byName.step() ? Self.node(byName) : nil
    }

    /// Up to `limit` entries of a directory in order of their names' bytes, after the name `after`.
    func entries(of directory: Int64, after: [UInt8], limit: Int) throws -> [(name: [UInt8], id: Int64, entry: Entry, top: Int64)] {
        children.bind(directory, at: 1)
        children.bind(blob: after, at: 2)
        children.bind(limit, at: 3)
        defer { children.reset() }
        var out: [(name: [UInt8], id: Int64, entry: Entry, top: Int64)] = []
        while try children.step() {
            out.append((children.bytes(0) ?? [], children.integer(1) ?? 0, Self.entry(children, from: 2), children.integer(12) ?? 0))
        }
        return out
    }

    /// The root's attributes; those that a directory gets which no layer tells about when there are none.
    func rootEntry() throws -> Entry {
        try entry(Self.root) ?? Entry(kind: .directory, permissions: 0o755, uid: 0, gid: 0, mtime: 0)
    }

    /// The path of an entry from the root, without a slash in front.
    func path(of id: Int64) throws -> [UInt8] {
        let up = try scratch.prepare("SELECT parent, name FROM node WHERE id = ?")
        var names: [[UInt8]] = []
        var at = id
        while at != Self.root {
            up.bind(at, at: 1)
            defer { up.reset() }
            guard try up.step(), let parent = up.integer(0), let name = up.bytes(1) else { break }
            names.append(name)
            at = parent
        }
        return Array(names.reversed().joined(separator: [UInt8(ascii: "/")]))
    }

    // MARK: Layers

    /// Puts the attributes of `layer` on the root, unless an upper layer did.
    func placeRoot(_ entry: Entry, layer: Int64) throws {
        guard let root = try node(Self.root), root.attributes == 0 || root.attributes == layer else { return }
        try write(entry, to: root.id, top: 0, layer: layer)
    }

    /// Puts an entry into a directory that is open to `layer`.
    func place(_ entry: Entry, name: [UInt8], in parent: Int64, layer: Int64) throws -> Placed {
        guard let node = try find(name, in: parent) else {
            let id = try add(nil, parent: parent, name: name, kind: entry.kind, layer: layer)
            try write(entry, to: id, top: layer, layer: layer)
            return .new(id)
        }
        switch node.kind {
        case .nothing:
            guard layer >= node.selfClosed else { return .hidden }
            try write(entry, to: node.id, top: layer, layer: layer)
            return .new(node.id)
        case .directory where entry.kind == .directory:
            if node.attributes == layer || (node.attributes == 0 && layer >= node.selfClosed) {
                try write(entry, to: node.id, top: node.top, layer: layer)
            }
            return .united(node.id)
        case .directory:
            guard node.top > layer else { return .conflict }
            // What lies further below was replaced by this entry before the upper layer made it a directory again.
            try mark(node.id, closed: layer, selfClosed: layer)
            return .hidden
        case .file, .symlink, .fifo, .socket, .charDevice, .blockDevice:
            guard node.top == layer else { return .hidden }
            // As in any archive, what comes later counts; under another number, since blocks may be under way under this one.
            try remove(node.id)
            let id = try add(nil, parent: parent, name: name, kind: entry.kind, layer: layer)
            try write(entry, to: id, top: layer, layer: layer)
            return .replaced(node.id, id)
        }
    }

    /// The entry with the number `id`.
    func entry(_ id: Int64) throws -> Entry? {
        whole.bind(id, at: 1)
        defer { whole.reset() }
        return try whole.step() ? Self.entry(whole, from: 0) : nil
    }

    /// Puts other attributes, size and content on an entry that `place` made, which stays what it is.
    func update(_ id: Int64, _ entry: Entry, layer: Int64) throws { try write(entry, to: id, top: layer, layer: layer) }

    /// Takes out an entry that is no directory, as if it had never come.
    func remove(_ id: Int64) throws {
        drop.bind(id, at: 1)
        try drop.run()
    }

    /// The directory `name` on the way to an entry of `layer`; made when there is none.
    ///
    /// - Parameter isMark: the way leads to a mark only, which does not make its directories exist.
    func descend(_ name: [UInt8], in parent: Int64, layer: Int64, isMark: Bool) throws -> Placed {
        guard let node = try find(name, in: parent) else {
            return .united(try add(nil, parent: parent, name: name, kind: isMark ? .nothing : .directory, layer: layer))
        }
        switch node.kind {
        case .nothing:
            guard layer >= node.selfClosed else { return .hidden }
            if !isMark {
                try write(Entry(kind: .directory, permissions: 0o755, uid: 0, gid: 0, mtime: 0), to: node.id, top: layer, layer: 0)
            }
            return .united(node.id)
        case .directory: return node.isOpen(to: layer) ? .united(node.id) : .hidden
        case .file, .symlink, .fifo, .socket, .charDevice, .blockDevice: return node.top > layer ? .hidden : .conflict
        }
    }

    /// A whiteout: layers below `layer` have no `name` here.
    func whiteOut(_ name: [UInt8], in parent: Int64, layer: Int64) throws {
        let id = try find(name, in: parent)?.id ?? add(nil, parent: parent, name: name, kind: .nothing, layer: layer)
        try mark(id, closed: layer, selfClosed: layer)
    }

    /// An opaque directory: layers below `layer` have nothing in it.
    func makeOpaque(_ directory: Int64, layer: Int64) throws { try mark(directory, closed: layer, selfClosed: 0) }

    // MARK: Rows

    @discardableResult
    private func add(_ id: Int64?, parent: Int64, name: [UInt8], kind: Kind, layer: Int64) throws -> Int64 {
        let id = id ?? nextID
        nextID = max(nextID, id + 1)
        insert.bind(id, at: 1)
        insert.bind(parent, at: 2)
        insert.bind(blob: name, at: 3)
        insert.bind(kind.rawValue, at: 4)
        insert.bind(layer, at: 5)
        insert.bind(0, at: 6)
        insert.bind(0, at: 7)
        try insert.run()
        return id
    }

    private func write(_ entry: Entry, to id: Int64, top: Int64, layer: Int64) throws {
        fill.bind(entry.kind.rawValue, at: 1)
        fill.bind(top, at: 2)
        fill.bind(layer, at: 3)
        fill.bind(Int64(entry.permissions), at: 4)
        fill.bind(Int64(entry.uid), at: 5)
        fill.bind(Int64(entry.gid), at: 6)
        fill.bind(Int64(clamping: entry.size), at: 7)
        fill.bind(entry.mtime, at: 8)
        if let ctime = entry.ctime { fill.bind(ctime, at: 9) } else { fill.bindNull(at: 9) }
        fill.bind(Int64(bitPattern: entry.rdev), at: 10)
        if let target = entry.target { fill.bind(blob: target, at: 11) } else { fill.bindNull(at: 11) }
        fill.bind(entry.content, at: 12)
        fill.bind(id, at: 13)
        try fill.run()
    }

    private func mark(_ id: Int64, closed: Int64, selfClosed: Int64) throws {
        close.bind(closed, at: 1)
        close.bind(selfClosed, at: 2)
        close.bind(id, at: 3)
        try close.run()
    }

    private static func node(_ row: SQLiteStatement) -> Node {
        Node(
            id: row.integer(0) ?? 0, kind: row.integer(1).flatMap(Kind.init) ?? .nothing, top: row.integer(2) ?? 0,
            attributes: row.integer(3) ?? 0, closed: row.integer(4) ?? 0, selfClosed: row.integer(5) ?? 0, content: row.integer(6) ?? 0)
    }

    private static func entry(_ row: SQLiteStatement, from column: Int) -> Entry {
        Entry(
            kind: row.integer(column).flatMap(Kind.init) ?? .nothing, permissions: UInt16(truncatingIfNeeded: row.integer(column + 1) ?? 0),
            uid: UInt32(truncatingIfNeeded: row.integer(column + 2) ?? 0), gid: UInt32(truncatingIfNeeded: row.integer(column + 3) ?? 0),
            size: UInt64(clamping: row.integer(column + 4) ?? 0), mtime: row.integer(column + 5) ?? 0, ctime: row.integer(column + 6),
            rdev: UInt64(bitPattern: row.integer(column + 7) ?? 0), target: row.bytes(column + 8), content: row.integer(column + 9) ?? 0)
    }
}
