internal import BlockCodec
public import ChunkModel
public import Flist
internal import SQLiteFile

/// An entry that two flists tell differently about.
public struct FlistChange: Sendable {
    public enum Kind: String, Sendable { case added, removed, changed }

    /// What is compared of an entry that both have.
    public enum Field: String, Sendable, CaseIterable {
        case type, mode, owner, mtime, size, target, device
        /// The file's blocks have other keys. Told from the flists alone: nothing is fetched.
        case content
    }

    /// An entry's side, as far as it is shown.
    public struct Side: Sendable {
        /// file, dir, symlink, fifo, socket, chrdev, blkdev
        public var type: String
        public var permissions: UInt16
        public var uid: UInt32
        public var gid: UInt32
        public var mtime: Int64
        /// 0 for all but files.
        public var size: UInt64
        public var target: [UInt8]?
        public var device: [UInt32]?
    }

    /// From the root, with a slash at its start.
    public var path: [UInt8]
    public var kind: Kind
    public var before: Side?
    public var after: Side?
    /// Of a changed entry, what differs.
    public var fields: [Field]
}

/// What to compare, and how.
public struct DiffOptions: Sendable {
    /// Times of entries are not compared.
    public var ignoreTimes = false
    /// Owners are not compared.
    public var ignoreOwners = false

    public init() {}
}

/// What a comparison found; the flists are equal when `isEqual`.
public struct DiffReport: Sendable {
    public var added = 0
    public var removed = 0
    public var changed = 0
    /// Chunks of the second flist that the first one does not have: what a site that holds the first must pull for the second.
    public var newChunks = 0
    /// Their plain bytes, where the lengths of blocks can be told from their file's size.
    public var newPlainBytes: UInt64 = 0
    /// How many of them have a length that cannot be told.
    public var newChunksOfUnknownSize = 0
    /// Stored bytes of those that `storedBytes` knew, and how many these are.
    public var newStoredBytes: UInt64 = 0
    public var newChunksStored = 0
    /// Entries that are refused on one side or the other, and so not compared; at most `FlistPacker.maxLines`.
    public var problems: [String] = []
    public var problemCount = 0

    public var isEqual: Bool { added + removed + changed == 0 }
}

/// Compares two flists: entries, and the chunks that the second one needs beyond the first.
///
/// Content is compared by the keys of blocks, which are the same for the same plain bytes, whatever the codec (`rfs` or `zstd`). Files whose
/// blocks have keys of different kinds (legacy and `.fl`), or are cut at different places, count as different.
public enum FlistDiffer {
    private static let schema = """
        CREATE TABLE entry (path BLOB NOT NULL, side INTEGER NOT NULL, type TEXT NOT NULL, perms INTEGER NOT NULL, uid INTEGER NOT NULL,
            gid INTEGER NOT NULL, mtime INTEGER NOT NULL, size INTEGER NOT NULL, target BLOB, major INTEGER, minor INTEGER, content BLOB,
            PRIMARY KEY (path, side)) WITHOUT ROWID;
        """

    /// Memory does not grow with the flists, apart from 90 bytes for each chunk of the first: entries are put into order in a scratch
    /// database, and compared one after the other.
    ///
    /// - Parameters:
    ///   - storedBytes: how long a chunk is where it is stored, when that is known.
    ///   - change: called for each difference, in order of the paths' bytes.
    ///   - check: called now and then; when it throws, so does this.
    public static func compare(
        _ first: FlistFile, _ second: FlistFile, _ options: DiffOptions = DiffOptions(),
        storedBytes: (ChunkID) throws -> Int? = { _ in nil },
        check: () throws -> Void = {}, change: (FlistChange) throws -> Void
    ) throws -> DiffReport {
        var report = DiffReport()
        do {
            let scratch = try ScratchDatabase(schema: schema)
            let ledger = try ChunkLedger()
            for (side, flist) in [first, second].enumerated() {
                try flist.checkIntegrity()
                try load(flist, side: side, into: scratch, ledger: side == 1 ? ledger : nil, &report, check)
            }
            // Rows that no entry leads to are pulled too when an flist is prefetched.
            for id in try second.uniqueChunks() { try ledger.add(id, plain: nil) }
            for id in try first.uniqueChunks() { try ledger.strike(id) }
            let sums = try ledger.sums()
            (report.newChunks, report.newPlainBytes, report.newChunksOfUnknownSize) = (sums.chunks, sums.plainBytes, sums.unknown)
            try ledger.forEach { id, _ in
                try check()
                guard let bytes = try storedBytes(id) else { return }
                report.newStoredBytes += UInt64(bytes)
                report.newChunksStored += 1
            }
            try compareRows(scratch, options, &report, check, change)
        } catch let error as SQLiteError {
            throw ToolError.scratch(error)
        }
        return report
    }

    private static func load(
        _ flist: FlistFile, side: Int, into scratch: ScratchDatabase, ledger: ChunkLedger?, _ report: inout DiffReport,
        _ check: () throws -> Void
    ) throws {
        let insert = try scratch.prepare("INSERT OR IGNORE INTO entry VALUES (?,?,?,?,?,?,?,?,?,?,?,?)")
        func problem(_ line: String) {
            report.problemCount += 1
            if report.problems.count < FlistPacker.maxLines {
                report.problems.append("\(FlistPath.quoted(Array(flist.path.utf8))): \(line)")
            }
        }
        func add(_ entry: FlistEntry, _ path: [UInt8]) throws {
            var content: [UInt8]?
            if entry.isFile {
                do throws(FlistError) {
                    let blocks = try flist.blocks(of: entry)
                    let stream = Blake2bStream()
                    for block in blocks { block.key.bytes.withUnsafeBytes { stream.update($0) } }
                    content = stream.finish().bytes
                    if let ledger { try Self.add(blocks, entry, to: ledger) }
                } catch {
                    guard error.code == .badBlocks else { throw error }
                    problem("\(FlistPath.quoted(path)): \(error.message)")
                }
            }
            insert.bind(blob: path, at: 1)
            insert.bind(side, at: 2)
            insert.bind(text: entry.typeName, at: 3)
            insert.bind(Int64(entry.permissions), at: 4)
            insert.bind(Int64(entry.uid), at: 5)
            insert.bind(Int64(entry.gid), at: 6)
            insert.bind(entry.mtime, at: 7)
            insert.bind(Int64(clamping: entry.isFile ? entry.size : 0), at: 8)
            switch entry.kind {
            case .symlink(let target): insert.bind(blob: target, at: 9)
            case .charDevice(let major, let minor), .blockDevice(let major, let minor):
                insert.bind(Int64(major), at: 10)
                insert.bind(Int64(minor), at: 11)
            case .file, .directory, .fifo, .socket: break
            }
            if let content { insert.bind(blob: content, at: 12) }
            try insert.run()
        }
        try add(flist.root(), [UInt8(ascii: "/")])
        var walker = FlistWalker(flist, below: flist.root())
        while let item = try walker.next() {
            try check()
            switch item {
            case .problem(let refused): problem(refused.line)
            case .entry(let visit): try add(visit.entry, visit.path)
            }
        }
    }

    private static func add(_ blocks: [BlockRef], _ entry: FlistEntry, to ledger: ChunkLedger) throws(FlistError) {
        do { try ledger.add(blocks.map(\.id), size: entry.size) } catch {
            throw FlistError(.unreadable, "temporary data: \(error)")
        }
    }

    /// Rows of one path stand beside each other.
    private static func compareRows(
        _ scratch: ScratchDatabase, _ options: DiffOptions, _ report: inout DiffReport, _ check: () throws -> Void,
        _ change: (FlistChange) throws -> Void
    ) throws {
        struct Row {
            var path: [UInt8]
            var side: Int64
            var entry: FlistChange.Side
            var content: [UInt8]?
        }
        func tell(_ path: [UInt8], _ before: Row?, _ after: Row?) throws {
            let kind: FlistChange.Kind
            var fields: [FlistChange.Field] = []
            switch (before, after) {
            case (let before?, let after?):
                fields = before.entry.differences(from: after.entry, options)
                if before.entry.type == "file", after.entry.type == "file", before.content != after.content { fields.append(.content) }
                guard !fields.isEmpty else { return }
                kind = .changed
                report.changed += 1
            case (nil, _):
                kind = .added
                report.added += 1
            case (_, nil):
                kind = .removed
                report.removed += 1
            }
            try change(FlistChange(path: path, kind: kind, before: before?.entry, after: after?.entry, fields: fields))
        }
        let rows = try scratch.prepare("SELECT * FROM entry ORDER BY path, side")
        var waiting: Row?
        while try rows.step() {
            try check()
            let row = Row(
                path: rows.bytes(0) ?? [], side: rows.integer(1) ?? 0,
                entry: FlistChange.Side(
                    type: rows.text(2) ?? "", permissions: UInt16(truncatingIfNeeded: rows.integer(3) ?? 0),
                    uid: UInt32(truncatingIfNeeded: rows.integer(4) ?? 0), gid: UInt32(truncatingIfNeeded: rows.integer(5) ?? 0),
                    mtime: rows.integer(6) ?? 0, size: UInt64(clamping: rows.integer(7) ?? 0), target: rows.bytes(8),
                    device: rows.integer(9).map { [UInt32(truncatingIfNeeded: $0), UInt32(truncatingIfNeeded: rows.integer(10) ?? 0)] }),
                content: rows.bytes(11))
            if let before = waiting, before.path == row.path {
                waiting = nil
                try tell(row.path, before, row)
                continue
            }
            if let before = waiting { try tell(before.path, before, nil) }
            waiting = nil
            if row.side == 0 { waiting = row } else { try tell(row.path, nil, row) }
        }
        if let before = waiting { try tell(before.path, before, nil) }
    }
}

extension FlistChange.Side {
    fileprivate func differences(from other: Self, _ options: DiffOptions) -> [FlistChange.Field] {
        // Of another kind altogether: the rest says nothing.
        guard type == other.type else { return [.type] }
        var fields: [FlistChange.Field] = []
        if permissions != other.permissions { fields.append(.mode) }
        if !options.ignoreOwners, (uid, gid) != (other.uid, other.gid) { fields.append(.owner) }
        if !options.ignoreTimes, mtime != other.mtime { fields.append(.mtime) }
        if size != other.size { fields.append(.size) }
        if target != other.target { fields.append(.target) }
        if device != other.device { fields.append(.device) }
        return fields
    }
}

extension FlistEntry {
    /// As JSON documents name it.
    public var typeName: String {
        switch kind {
        case .file: "file"
        case .directory: "dir"
        case .symlink: "symlink"
        case .fifo: "fifo"
        case .socket: "socket"
        case .charDevice: "chrdev"
        case .blockDevice: "blkdev"
        }
    }
}
