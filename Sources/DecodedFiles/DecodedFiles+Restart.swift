internal import CLinux
internal import ChunkModel
internal import Glibc
internal import LocalFiles
internal import Logging
internal import Synchronization

/// What stands in `kept`, written at an orderly stop and taken away at the start: a line for each file, with its name, size, number and the bits of the
/// blocks that are ready. Where it is missing, no file is believed.
extension DecodedFiles {
    static let listName = "kept"
    /// A longer list is not believed.
    static let maxListBytes = 64 << 20

    static func openDirectory(_ path: String) throws(DecodedFilesError) -> Int32 {
        // Nobody else has to do with what is in there: others get descriptors.
        if mkdir(path, 0o700) != 0, errno != EEXIST {
            throw DecodedFilesError(description: "\(path) cannot be created: \(String(cString: strerror(errno)))")
        }
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            throw DecodedFilesError(description: "\(path) cannot be opened: \(String(cString: strerror(errno)))")
        }
        return descriptor
    }

    /// Takes over what an orderly stop left, and drops all else.
    func takeOver() {
        let kept = readList()
        // Gone for good before anything is changed: a list from before a power cut must not speak of files made after it.
        if unlinkat(descriptor, Self.listName, 0) == 0 { fsync(descriptor) }
        var found: [DecodedFile] = []
        var dropped = 0
        for name in names() {
            guard let entry = kept[name], let identity = ContentIdentity(name: name), isOn, hasSize(name, entry.size),
                found.count < Self.maxFiles
            else {
                if unlinkat(descriptor, name, 0) == 0 { dropped += 1 }
                continue
            }
            let number = table.withLock { table in
                table.numbers += 1
                return table.numbers
            }
            // Its blocks are told by whoever asks for this content: nothing is filled before.
            found.append(DecodedFile(number: number, size: entry.size, identity: identity, blocks: [], room: room, bits: entry.bits))
        }
        table.withLock { table in
            for file in found { table.files[file.identity] = file }
        }
        for (order, file) in found.sorted(by: { (kept[$0.identity.name]?.order ?? 0) < (kept[$1.identity.name]?.order ?? 0) }).enumerated()
        {
            file.used.store(UInt64(order), ordering: .relaxed)
        }
        clock.store(UInt64(found.count) + 1, ordering: .relaxed)
        if kept.isEmpty, dropped > 0 {
            logger.notice("decoded files of an unclean stop are dropped", metadata: ["files": "\(dropped)"])
        }
        if case .tooMuch(let over) = room.reserve(0) { evict(over, sparing: nil) }
    }

    /// Nothing is decoded any more; what there is gets written down for the next start, after all of it is on the device. Blocking, for seconds on a
    /// slow disk.
    public func close() {
        let files = table.withLock { table -> [DecodedFile] in
            guard !table.isClosed else { return [] }
            table.isClosed = true
            defer { table.files = [:] }
            return Array(table.files.values)
        }
        guard !files.isEmpty else { return }
        // What is written after this look is not said to be there.
        let ordered = files.sorted { $0.used.load(ordering: .relaxed) < $1.used.load(ordering: .relaxed) }
        let looked = ordered.map { file in (file, file.state.withLock { $0.isUneven ? [] : $0.bits }) }
        guard syncfs(descriptor) == 0 else { return }
        var text = ""
        for (file, bits) in looked {
            guard bits.contains(where: { $0 != 0 }) || file.size == 0 else { continue }
            text += "\(file.identity.name) \(file.size) \(bits.map { String($0, radix: 16) }.joined(separator: ","))\n"
        }
        text += "end\n"
        let temporary = Self.listName + ".new"
        let list = openat(descriptor, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard list >= 0 else { return }
        let isWritten = Array(text.utf8).withUnsafeBytes { FileBytes.write($0, to: list) } == 0 && fsync(list) == 0
        Glibc.close(list)
        guard isWritten, renameat(descriptor, temporary, descriptor, Self.listName) == 0 else {
            unlinkat(descriptor, temporary, 0)
            return
        }
        fsync(descriptor)
    }

    private struct Kept {
        let size: UInt64
        let bits: [UInt64]
        let order: Int
    }

    private func readList() -> [String: Kept] {
        let list = openat(descriptor, Self.listName, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard list >= 0 else { return [:] }
        defer { Glibc.close(list) }
        var status = stat()
        guard fstat(list, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= Self.maxListBytes else { return [:] }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        guard bytes.withUnsafeMutableBytes({ FileBytes.read(into: $0, from: list) }) == bytes.count else { return [:] }
        let lines = bytes.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
        // Without its last line it was not written to the end.
        guard lines.last == "end" else { return [:] }
        var out: [String: Kept] = [:]
        for (order, line) in lines.dropLast().enumerated() {
            let parts = line.split(separator: " ", omittingEmptySubsequences: false)
            guard parts.count == 3, let size = UInt64(parts[1]), size <= UInt64(Int64.max) else { return [:] }
            let bits = parts[2].split(separator: ",").compactMap { UInt64($0, radix: 16) }
            guard bits.count == (DecodedFile.blockCount(size) + 63) / 64 else { continue }
            out[String(parts[0])] = Kept(size: size, bits: bits, order: order)
        }
        return out
    }

    private func hasSize(_ name: String, _ size: UInt64) -> Bool {
        var status = stat()
        return fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_mode & S_IFMT == S_IFREG
            && UInt64(clamping: status.st_size) == size
    }

    private func names() -> [String] {
        let copy = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0 else { return [] }
        guard let stream = fdopendir(copy) else {
            Glibc.close(copy)
            return []
        }
        defer { closedir(stream) }
        var out: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { out.append(name) }
        }
        return out
    }
}
