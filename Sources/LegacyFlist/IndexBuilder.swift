internal import ChunkModel
internal import Flist
internal import SQLiteFile

/// Turns the records of a legacy flist into the rows of an `.fl` (FORMATS.md §2.3).
///
/// **The order of the rows is a promise**: what is written is a function of the archive's bytes alone, and bit n of the bitmaps that
/// nodes exchange is the n-th chunk of the block table. Directories are visited depth first, a directory's entries written in the
/// order of its record. Whoever changes that, or what is refused, makes nodes of two versions disagree.
///
/// Memory: one record, the keys of all directories (16 bytes, twice), and those that are still to be visited.
struct IndexBuilder {
    /// Directories of one flist; further ones are refused. 16 million keys take 600 MB.
    static let maxDirectories = 16 << 20
    /// Access rights that are remembered; when there are more, all are forgotten and read anew.
    static let maxACIs = 1 << 16

    private struct Pending {
        let key: DirectoryKey
        let ino: Int64
        let depth: Int
    }

    private struct Owner {
        var permissions: UInt16
        var uid: UInt32
        var gid: UInt32
        /// Why these are a stand-in.
        var fault: String?
    }

    private let source: LegacyDatabase
    private let writer: IndexWriter
    private var pending: [Pending] = []
    private var visited: Set<DirectoryKey> = []
    private var owners: [[UInt8]: Owner] = [:]
    private var namesOnly = 0
    private var lostSpecials = 0

    private init(_ source: LegacyDatabase, _ writer: IndexWriter) { (self.source, self.writer) = (source, writer) }

    /// - Parameters:
    ///   - router: the bytes of router.yaml, where there is one.
    ///   - routes: what is recorded in place of the flist's own routes.
    ///   - path: an empty file, to be thrown away after an error.
    ///   - check: called now and then; what it throws ends it all.
    /// - Throws: `FlistError` when the root cannot be used; SQLite's errors, also when the disk is full.
    static func build(
        _ source: LegacyDatabase, router: Result<[UInt8], RoutingError>?, to path: String, routes: ([Route]) throws -> [Route] = { $0 },
        check: () throws -> Void
    ) throws {
        let writer = try IndexWriter(path: path)
        var builder = IndexBuilder(source, writer)
        try builder.writeTree(check)
        try builder.writeMetadata(router, routes)
        try writer.finish()
    }

    // MARK: The tree

    private mutating func writeTree(_ check: () throws -> Void) throws {
        let root: LegacyDirectory
        do {
            guard let bytes = try source.value(DirectoryKey.root.text) else {
                throw FlistError(.damaged, "damaged legacy .flist: no record of its root directory")
            }
            root = try Self.checked(bytes)
        } catch let error as CapnpError {
            throw FlistError(.damaged, "damaged legacy .flist: its root directory's record: \(error.reason)")
        }
        let owner = try self.owner(root.aclKey)
        let ino = try writer.add(
            IndexWriter.Row(
                parent: 0, name: [UInt8(ascii: "/")], mode: 0o040000 | UInt32(owner.permissions), uid: owner.uid, gid: owner.gid,
                mtime: root.mtime, ctime: root.ctime))
        if let fault = owner.fault { try writer.addProblem(in: ino, name: [UInt8(ascii: ".")], fault, isKept: true) }
        visited.insert(.root)
        pending.append(Pending(key: .root, ino: ino, depth: 0))
        while let next = pending.popLast() {
            try check()
            // Read a second time, so that those that wait need no room.
            guard let bytes = try source.value(next.key.text) else { continue }
            try writeEntries(try Self.checked(bytes), of: next)
        }
        if namesOnly > 0 {
            try writer.add(
                note: "\(namesOnly) sets of access rights name owners without numbers; names that Debian's base system does not know"
                    + " became \(WellKnownOwners.fallback)")
        }
        if lostSpecials > 0 {
            try writer.add(note: "\(lostSpecials) devices and fifos were recorded without their type; they are shown as sockets")
        }
    }

    /// The record, once all its entries have been gone through: an error that ends the message comes now or never.
    private static func checked(_ bytes: [UInt8]) throws(CapnpError) -> LegacyDirectory {
        let directory = try LegacyDirectory(bytes)
        var probe = directory
        var name: [UInt8] = []
        for index in 0..<directory.entries.count {
            do {
                if case .file(_, let blocks) = try probe.entry(index, name: &name).kind {
                    // Held to the end of the call: Swift 6.3.1, optimising, frees an array that nobody reads before it has filled it
                    // (found by AddressSanitizer under scripts/fuzz).
                    for place in 0..<blocks.count { withExtendedLifetime(try probe.block(blocks, place)) {} }
                }
            } catch {
                if error.endsMessage { throw error }
            }
        }
        return directory
    }

    private mutating func writeEntries(_ record: LegacyDirectory, of directory: Pending) throws {
        var record = record
        let firstNew = pending.count
        for index in 0..<record.entries.count {
            var name: [UInt8] = []
            let entry: LegacyEntry
            do {
                entry = try record.entry(index, name: &name)
            } catch {
                try writer.addProblem(in: directory.ino, name: name, "damaged record: \(error.reason)")
                continue
            }
            if let reason = try write(entry, &record, in: directory) {
                try writer.addProblem(in: directory.ino, name: name, reason)
            }
        }
        // The first one is to be visited first.
        pending[firstNew...].reverse()
    }

    /// - Returns: why it is left out.
    private mutating func write(_ entry: LegacyEntry, _ record: inout LegacyDirectory, in directory: Pending) throws -> String? {
        if let reason = FlistPath.refusal(ofName: entry.name) { return reason }
        if case .directory(let key) = entry.kind { return try writeDirectory(entry, key: key, in: directory) }
        let owner = try self.owner(entry.aclKey)
        var row = IndexWriter.Row(
            parent: directory.ino, name: entry.name, mode: UInt32(owner.permissions), uid: owner.uid, gid: owner.gid, mtime: entry.mtime,
            ctime: entry.ctime)
        var faults = owner.fault.map { [$0] } ?? []
        var blocks: [(id: [UInt8], key: [UInt8])] = []
        switch entry.kind {
        case .directory: return nil
        case .file(let unit, let list):
            guard let size = Int64(exactly: entry.size) else { return "size \(entry.size) is out of range" }
            row.mode |= 0o100000
            row.size = size
            blocks.reserveCapacity(list.count)
            for place in 0..<list.count {
                let (id, key): ([UInt8], [UInt8])
                do { (id, key) = try record.block(list, place) } catch { return "damaged record of block \(place): \(error.reason)" }
                guard id.count == 16, key.count == 16 else {
                    return "bad \(id.count == 16 ? "key" : "id") of block \(place) (not 16 bytes)"
                }
                blocks.append((id, key))
            }
            if let fault = Self.missingBytes(size: size, blocks: list.count, unit: unit) { faults.append(fault) }
        case .symlink(let target):
            if target.isEmpty { return "symlink without target" }
            if target.contains(0) { return "symlink target contains NUL" }
            if target.count > InodeRow.maxTarget { return "symlink target of \(target.count) bytes" }
            row.mode |= 0o120000
            row.size = Int64(target.count)
            row.target = target
        case .special(let type, let data):
            guard let (mode, rdev) = special(type, data) else { return "device without usable numbers" }
            row.mode |= mode
            row.rdev = rdev
        }
        let ino = try writer.add(row)
        for block in blocks { try writer.addBlock(of: ino, id: block.id, key: block.key) }
        for fault in faults { try writer.addProblem(in: directory.ino, name: entry.name, fault, isKept: true) }
        return nil
    }

    private mutating func writeDirectory(_ entry: LegacyEntry, key: [UInt8], in directory: Pending) throws -> String? {
        guard let key = DirectoryKey(text: key) else { return "directory without a usable key" }
        guard directory.depth + 1 < FlistFile.maxDepth else { return "nested deeper than \(FlistFile.maxDepth) directories" }
        guard !visited.contains(key) else { return "its record is that of another directory" }
        guard visited.count < Self.maxDirectories else { return "more than \(Self.maxDirectories) directories" }
        let record: LegacyDirectory
        do {
            guard let bytes = try source.value(key.text) else { return "directory without a record" }
            record = try Self.checked(bytes)
        } catch let error as CapnpError {
            return "damaged record: \(error.reason)"
        }
        visited.insert(key)
        let owner = try self.owner(record.aclKey)
        let ino = try writer.add(
            IndexWriter.Row(
                parent: directory.ino, name: entry.name, mode: 0o040000 | UInt32(owner.permissions), uid: owner.uid, gid: owner.gid,
                mtime: record.mtime, ctime: record.ctime))
        if let fault = owner.fault { try writer.addProblem(in: directory.ino, name: entry.name, fault, isKept: true) }
        pending.append(Pending(key: key, ino: ino, depth: directory.depth + 1))
        return nil
    }

    /// What the blocks cannot hold, as something that was left out: zflist counted them in 32-bit floating point, and flists can be made without storing any.
    private static func missingBytes(size: Int64, blocks: Int, unit: UInt16) -> String? {
        if blocks == 0 { return size > 0 ? "all of its \(size) bytes, which were never stored" : nil }
        // Other units have not been seen, and blocks are put together whatever this says.
        guard unit == 128 else { return nil }
        let (room, overflow) = Int64(blocks).multipliedReportingOverflow(by: Int64(ChunkLimits.blockBytes))
        return !overflow && size > room ? "the last \(size - room) of its \(size) bytes, which were never stored" : nil
    }

    /// - Returns: type bits and device number.
    private mutating func special(_ type: UInt16, _ data: [UInt8]) -> (UInt32, Int64)? {
        let numbers = data.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
            .map { UInt32(String(decoding: $0, as: UTF8.self)) }
        switch type {
        case 1, 2:
            guard numbers.count == 2, let major = numbers[0], let minor = numbers[1] else { return nil }
            guard let device = Int64(exactly: DeviceNumber.encoded(major: major, minor: minor)) else { return nil }
            return (type == 1 ? 0o060000 : 0o020000, device)
        case 3: return (0o010000, 0)
        default:
            // zflist writes 0 for all of them, and 4 means that nobody knew.
            if !data.isEmpty || type != 0 { lostSpecials += 1 }
            return (0o140000, 0)
        }
    }

    // MARK: Owners

    private mutating func owner(_ key: [UInt8]) throws -> Owner {
        if let known = owners[key] { return known }
        let owner: Owner
        do {
            if let bytes = try source.value(key), !key.isEmpty {
                let aci = try LegacyACI(bytes)
                if aci.uid == nil || aci.gid == nil { namesOnly += 1 }
                owner = Owner(
                    permissions: aci.permissions, uid: aci.uid ?? WellKnownOwners.uid(aci.userName),
                    gid: aci.gid ?? WellKnownOwners.gid(aci.groupName))
            } else {
                owner = Self.standIn("missing")
            }
        } catch let error as CapnpError {
            owner = Self.standIn("damaged (\(error.reason))")
        }
        if owners.count >= Self.maxACIs { owners.removeAll() }
        owners[key] = owner
        return owner
    }

    /// As 0-fs has it.
    private static func standIn(_ reason: String) -> Owner {
        Owner(
            permissions: 0o400, uid: WellKnownOwners.fallback, gid: WellKnownOwners.fallback,
            fault: "its access rights, which are \(reason); mode 0400 and owner \(WellKnownOwners.fallback) stand in")
    }

    // MARK: Routes and tags

    private func writeMetadata(_ router: Result<[UInt8], RoutingError>?, _ change: ([Route]) throws -> [Route]) throws {
        var routes: [Route] = []
        if let router {
            do throws(RoutingError) {
                routes = try RouterFile.routes(try router.get())
            } catch {
                try writer.add(note: "router.yaml is ignored: \(error.reason)")
            }
        }
        let lookups = routes.filter { !$0.isCache }.map(\.tier).max().map { $0 + 1 } ?? 0
        for (key, value) in try source.metadata() {
            if key.elementsEqual("backend".utf8) {
                // Behind all pools: the router says where to look, this is where the flist's maker looked.
                do throws(RoutingError) {
                    let backend = try Backend.route(value, tier: lookups)
                    if !routes.contains(backend) { routes.append(backend) }
                } catch {
                    try writer.add(note: "the backend of the metadata is ignored: \(error.reason)")
                }
            } else if !key.elementsEqual(FlistTag.codec.utf8) {
                try writer.addTag(key, value)
            }
        }
        for route in try change(routes) { try writer.add(route) }
    }
}
