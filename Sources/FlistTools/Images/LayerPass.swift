internal import Archives
internal import ChunkModel
internal import Flist

/// One layer of an image, put into the tree below those that came before, the contents of what is seen of it on their way to the stores.
///
/// Whiteouts are read as OCI's image-spec has them (layer.md): `.wh.NAME` hides NAME of lower layers, `.wh..wh..opq` all that lower layers
/// have in the directory; other names that begin with `.wh..wh.` are AUFS's own, and mean nothing. Where a layer has an entry below a path
/// that a lower layer says is a symbolic link or a file, there is a directory, as with overlay file systems: links are never followed.
final class LayerPass {
    /// Hard links whose target is hidden, and hidden hard links, that are remembered; further ones are reported and left out.
    static let maxHiddenLinks = 100_000
    private static let whiteoutPrefix = Array(".wh.".utf8)
    private static let auf = Array(".wh..wh.".utf8)
    private static let opaque = Array(".wh..wh..opq".utf8)
    private static let pieceBytes = 256 << 10

    private let tree: LayerTree
    private let session: PackSession
    private let layer: Int64
    private let report: ImageReportKeeper
    private let buffer: UnsafeMutableRawBufferPointer
    /// The directories of the path that came last, as far as they are directories: many entries have them in common.
    private var trail: [(name: [UInt8], id: Int64)] = []
    /// Hard links whose target an upper layer hides: their numbers, by the target's path.
    private var waiting: [[UInt8]: [Int64]] = [:]
    private var awaited: [Int64: [UInt8]] = [:]
    /// Members read so far in this reading of the layer; where the waiting links stood; and which member each of them is a link to: of
    /// several of one name the last one before it.
    private var ordinal = 0
    private var linkOrdinals: [Int64: Int] = [:]
    private var wanted: [Int64: Int] = [:]
    /// Hard links that an upper layer hides: their targets' paths, by their own.
    private var aliases: [[UInt8]: [UInt8]] = [:]
    private var hiddenLinks = 0

    init(_ layer: Int64, of tree: LayerTree, session: PackSession, report: ImageReportKeeper) {
        (self.layer, self.tree, self.session, self.report) = (layer, tree, session, report)
        buffer = .allocate(byteCount: Self.pieceBytes, alignment: 4096)
    }

    deinit { buffer.deallocate() }

    /// Whether contents are still wanted that only reading the layer again can give: first `findWaiting`, then `addWaiting`.
    var isWaiting: Bool { !waiting.isEmpty }

    // MARK: Members

    /// Takes the member that `tar` stands at.
    func add(_ member: TarMember, from tar: TarReader) throws {
        ordinal += 1
        let parts = member.path.split(separator: UInt8(ascii: "/")).filter { !$0.elementsEqual(".".utf8) }.map { Array($0) }
        if let reason = Self.refusal(parts) { return report.problem(member.path, "left out: \(reason)") }
        note(member)
        guard let name = parts.last else {
            if member.kind == .directory { try tree.placeRoot(Self.entry(member), layer: layer) }
            return
        }
        if parts.dropLast().contains(where: { $0.starts(with: Self.auf) }) { return }
        if name.starts(with: Self.whiteoutPrefix) { return try addMark(name, in: Array(parts.dropLast())) }
        guard let parent = try descend(Array(parts.dropLast()), isMark: false, member.path) else {
            if case .hardLink(let target) = member.kind { rememberHidden(parts, target) } else { forgetHidden(parts) }
            report.report.hiddenEntries += 1
            return
        }
        switch member.kind {
        case .hardLink(let target): try addLink(member, target: target, parts, parent: parent)
        case .other: report.problem(member.path, "left out: of a type that is not known")
        case .symlink(let target) where target.isEmpty || target.contains(0) || target.count > 4095:
            report.problem(member.path, "left out: a symbolic link with a target of \(target.count) bytes")
        case .file, .directory, .symlink, .fifo, .socket, .charDevice, .blockDevice:
            guard let id = try place(Self.entry(member), name, parent, member.path) else { return forgetHidden(parts) }
            if member.kind == .file { try read(tar, into: id, size: member.size) }
        }
    }

    private static func refusal(_ parts: [[UInt8]]) -> String? {
        if parts.contains(where: { $0.elementsEqual("..".utf8) }) { return "a path that leads upwards" }
        if parts.contains(where: { $0.count > 255 }) { return "a name of over 255 bytes" }
        if parts.contains(where: { $0.contains(0) }) { return "a name with a NUL" }
        if parts.count > FlistFile.maxDepth { return "nested deeper than \(FlistFile.maxDepth) directories" }
        return nil
    }

    private func note(_ member: TarMember) {
        guard !member.attributes.isEmpty else { return }
        report.attributes += 1
        if member.attributes.contains("security.capability") {
            report.note("\(FlistPath.quoted(member.path)): has file capabilities (security.capability), which an flist cannot hold")
        }
    }

    static func entry(_ member: TarMember) -> LayerTree.Entry {
        var entry = LayerTree.Entry(
            kind: .file, permissions: member.permissions, uid: member.uid, gid: member.gid, size: 0, mtime: member.mtime)
        switch member.kind {
        case .file, .hardLink, .other: break
        case .directory: entry.kind = .directory
        case .symlink(let target): (entry.kind, entry.target) = (.symlink, target)
        case .fifo: entry.kind = .fifo
        case .socket: entry.kind = .socket
        case .charDevice(let major, let minor): (entry.kind, entry.rdev) = (.charDevice, DeviceNumber.encoded(major: major, minor: minor))
        case .blockDevice(let major, let minor): (entry.kind, entry.rdev) = (.blockDevice, DeviceNumber.encoded(major: major, minor: minor))
        }
        return entry
    }

    // MARK: Places

    /// The directory that `parts` leads to, where it is open to this layer; `nil` when an upper layer hides what would be in it.
    private func descend(_ parts: [[UInt8]], isMark: Bool, _ path: [UInt8]) throws -> Int64? {
        var common = 0
        while common < min(parts.count, trail.count), trail[common].name == parts[common] { common += 1 }
        trail.removeSubrange(common...)
        var at = trail.last?.id ?? LayerTree.root
        for part in parts[common...] {
            guard try tree.node(at)?.isOpen(to: layer) == true else { return nil }
            switch try tree.descend(part, in: at, layer: layer, isMark: isMark) {
            case .united(let id), .new(let id), .replaced(_, let id): at = id
            case .hidden: return nil
            case .conflict:
                report.problem(path, "left out: its own layer says that \(FlistPath.quoted(part)) is no directory")
                return nil
            }
            // What holds marks only may become a directory yet.
            if !isMark { trail.append((part, at)) }
        }
        return try tree.node(at)?.isOpen(to: layer) == true ? at : nil
    }

    /// - Returns: the entry's number, where it is new and seen.
    private func place(_ entry: LayerTree.Entry, _ name: [UInt8], _ parent: Int64, _ path: [UInt8]) throws -> Int64? {
        switch try tree.place(entry, name: name, in: parent, layer: layer) {
        case .new(let id): return id
        case .replaced(let old, let id):
            report.replaced.insert(old)
            if let target = awaited.removeValue(forKey: old) {
                waiting[target]?.removeAll { $0 == old }
                if waiting[target]?.isEmpty == true { waiting[target] = nil }
            }
            return id
        case .united: return nil
        case .hidden:
            report.report.hiddenEntries += 1
            return nil
        case .conflict:
            report.problem(path, "left out: its own layer says that there is a directory")
            return nil
        }
    }

    private func addMark(_ name: [UInt8], in parts: [[UInt8]]) throws {
        report.whiteouts += 1
        if name.starts(with: Self.auf), name != Self.opaque { return }
        guard let parent = try descend(parts, isMark: true, name) else { return }
        if name == Self.opaque { return try tree.makeOpaque(parent, layer: layer) }
        let hidden = Array(name.dropFirst(Self.whiteoutPrefix.count))
        if hidden.isEmpty || hidden == Array(".".utf8) || hidden == Array("..".utf8) {
            return report.problem(FlistPath.joined(Array(parts.joined(separator: [UInt8(ascii: "/")])), name), "a whiteout of nothing")
        }
        try tree.whiteOut(hidden, in: parent, layer: layer)
    }

    // MARK: Contents

    private func read(_ tar: TarReader, into id: Int64, size: Int64) throws {
        var count = try tar.read(into: buffer)
        while count > 0 {
            try session.append(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]), to: id)
            try report.check()
            count = try tar.read(into: buffer)
        }
        let bytes = try session.endPieces(of: id)
        guard var entry = try tree.entry(id) else { return }
        (entry.size, entry.content) = (UInt64(clamping: bytes), id)
        try tree.update(id, entry, layer: layer)
    }

    // MARK: Hard links

    private static func plain(_ path: [UInt8]) -> [UInt8] {
        Array(path.split(separator: UInt8(ascii: "/")).filter { !$0.elementsEqual(".".utf8) }.joined(separator: [UInt8(ascii: "/")]))
    }

    /// The entry at `path` that is of this layer, where it is seen and no directory.
    private func own(_ path: [UInt8]) throws -> LayerTree.Node? {
        var at: LayerTree.Node?
        for part in path.split(separator: UInt8(ascii: "/")) {
            guard let node = try tree.find(Array(part), in: at?.id ?? LayerTree.root) else { return nil }
            at = node
        }
        guard let at, at.top == layer, at.kind != .directory, at.kind != .nothing else { return nil }
        return at
    }

    private func addLink(_ member: TarMember, target: [UInt8], _ parts: [[UInt8]], parent: Int64) throws {
        let plain = Self.plain(target)
        let path = aliases[plain] ?? plain
        guard path != Array(parts.joined(separator: [UInt8(ascii: "/")])) else {
            return report.problem(member.path, "left out: a hard link to itself")
        }
        guard let found = try own(path), let entry = try tree.entry(found.id) else {
            return try wait(member, parts, parent, for: path)
        }
        // Of a target that waits itself, the content is not known yet.
        if let awaited = awaited[found.id] { return try wait(member, parts, parent, for: awaited) }
        // The same inode: what the link's own header says of it does not count.
        if try place(entry, parts[parts.count - 1], parent, member.path) == nil { rememberHidden(parts, target) }
    }

    /// Takes the link's place in the tree; what is in it comes when the layer is read again.
    private func wait(_ member: TarMember, _ parts: [[UInt8]], _ parent: Int64, for target: [UInt8]) throws {
        guard hiddenLinks < Self.maxHiddenLinks else {
            return report.problem(member.path, "left out: more than \(Self.maxHiddenLinks) hard links to hidden files in one layer")
        }
        guard let id = try place(Self.entry(member), parts[parts.count - 1], parent, member.path) else {
            return rememberHidden(parts, member.hardLinkTarget)
        }
        hiddenLinks += 1
        waiting[target, default: []].append(id)
        awaited[id] = target
        linkOrdinals[id] = ordinal
    }

    private func rememberHidden(_ parts: [[UInt8]], _ target: [UInt8]) {
        guard hiddenLinks < Self.maxHiddenLinks else { return }
        hiddenLinks += 1
        let plain = Self.plain(target)
        aliases[Array(parts.joined(separator: [UInt8(ascii: "/")]))] = aliases[plain] ?? plain
    }

    /// Something else has that name now.
    private func forgetHidden(_ parts: [[UInt8]]) {
        if !aliases.isEmpty { aliases[Array(parts.joined(separator: [UInt8(ascii: "/")]))] = nil }
    }

    /// Starts reading the layer again.
    func beginAgain() { ordinal = 0 }

    /// The layer's members once more, to find those that the waiting links mean.
    func findWaiting(_ member: TarMember) {
        ordinal += 1
        for id in waiting[Self.plain(member.path)] ?? [] where ordinal < linkOrdinals[id] ?? 0 { wanted[id] = ordinal }
    }

    /// And once more, for their contents.
    func addWaiting(_ member: TarMember, from tar: TarReader) throws {
        ordinal += 1
        let path = Self.plain(member.path)
        let links = (waiting[path] ?? []).filter { wanted[$0] == ordinal }
        guard !links.isEmpty else { return }
        waiting[path]?.removeAll { links.contains($0) }
        switch member.kind {
        case .directory, .hardLink, .other:
            for id in links { try giveUp(id) }
            return
        case .file, .symlink, .fifo, .socket, .charDevice, .blockDevice: break
        }
        guard let first = links.first else { return }
        try tree.update(first, Self.entry(member), layer: layer)
        if member.kind == .file { try read(tar, into: first, size: member.size) }
        guard let entry = try tree.entry(first) else { return }
        for id in links.dropFirst() { try tree.update(id, entry, layer: layer) }
    }

    /// The layer has been read again.
    func endWaiting() throws {
        for id in waiting.values.joined().sorted() { try giveUp(id) }
        waiting = [:]
    }

    private func giveUp(_ id: Int64) throws {
        report.problem(try tree.path(of: id), "left out: a hard link to what is no file of its own layer")
        try tree.remove(id)
    }
}

extension TarMember {
    fileprivate var hardLinkTarget: [UInt8] { if case .hardLink(let target) = kind { target } else { [] } }
}
