internal import BlockCodec
internal import ChunkModel
internal import Glibc

/// The blocks of files that an interrupted run has stored, so that the next one need not read them again.
///
/// A header that names the codec and the stores, then a record for each file: length, key, ids and keys of its blocks, checksum. What
/// does not fit together is left out from there on. It says what was stored, not that it is still there: the stores are asked.
final class PackJournal {
    /// What a file was when it was read: path, device, inode, size, mtime and ctime to the nanosecond.
    struct Key: Hashable, Sendable {
        let value: [UInt8]

        /// `nil` unless its times lie before a second.
        init?(path: [UInt8], _ status: stat, before: Int) {
            let newest = max(status.st_mtim.tv_sec, status.st_ctim.tv_sec)
            guard newest < before else { return nil }
            var text = path + [0]
            for number in [
                UInt64(status.st_dev), UInt64(status.st_ino), UInt64(bitPattern: Int64(status.st_size)),
                UInt64(bitPattern: Int64(status.st_mtim.tv_sec)), UInt64(bitPattern: Int64(status.st_mtim.tv_nsec)),
                UInt64(bitPattern: Int64(status.st_ctim.tv_sec)), UInt64(bitPattern: Int64(status.st_ctim.tv_nsec)),
            ] {
                withUnsafeBytes(of: number.littleEndian) { text.append(contentsOf: $0) }
            }
            value = Array(text.withUnsafeBytes { Blake2b.hash256($0) }.bytes)
        }

        var prefix: UInt64 { value.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } }
    }

    /// Blocks of a file beyond which it is not recorded (32 GiB).
    static let maxBlocks = 65_536
    /// Written when so much has come together.
    private static let flushBytes = 16 << 10
    private static let magic = Array("chunkmesh pack journal 1\n".utf8)

    private struct Place {
        let prefix: UInt64
        let offset: Int
    }

    private let file: Int32
    private let idBytes: Int
    private let coding: BlockCoding
    private var places: [Place] = []
    private var end: Int
    private var buffer: [UInt8] = []
    private var isBroken = false

    /// - Parameters:
    ///   - file: open for reading and writing; closed by the caller, who holds the lock on it.
    ///   - identity: of the run; a journal of another one is emptied.
    init(file: Int32, coding: BlockCoding, identity: [UInt8]) {
        (self.file, self.coding) = (file, coding)
        idBytes = Int(coding.idLength.rawValue)
        let head = Self.magic + identity
        end = head.count
        if Self.read(file, head.count, at: 0) == head {
            load()
        } else {
            isBroken = ftruncate(file, 0) != 0
            write(head, at: 0)
        }
    }

    /// Whether `file` is empty or a journal: all else is not to be written over.
    static func isJournal(_ file: Int32) -> Bool {
        guard let head = read(file, 1, at: 0) else { return true }
        return head.isEmpty || read(file, magic.count, at: 0) == magic
    }

    /// The blocks of a file that was stored; `nil` when it is not known.
    func blocks(of key: Key) -> [BlockRef]? {
        var low = 0
        var high = places.count
        while low < high {
            let middle = low + (high - low) / 2
            if places[middle].prefix < key.prefix { low = middle + 1 } else { high = middle }
        }
        while low < places.count, places[low].prefix == key.prefix {
            if let (found, refs) = record(at: places[low].offset), found == key.value { return refs }
            low += 1
        }
        return nil
    }

    func add(_ key: Key, _ refs: [BlockRef]) {
        guard !isBroken, refs.count <= Self.maxBlocks else { return }
        let payload = key.value + refs.flatMap { $0.id.bytes + $0.key.bytes }
        buffer += withUnsafeBytes(of: UInt32(payload.count).littleEndian) { Array($0) } + payload + Self.checksum(payload)
        if buffer.count >= Self.flushBytes { flush() }
    }

    func flush() {
        write(buffer, at: end)
        end += buffer.count
        buffer = []
    }

    private func load() {
        var status = stat()
        guard fstat(file, &status) == 0 else { return }
        while let (key, _) = record(at: end) {
            places.append(Place(prefix: key.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }, offset: end))
            guard let length = length(at: end) else { break }
            end += 4 + length + 16
        }
        places.sort { $0.prefix < $1.prefix }
        if Int(status.st_size) > end { isBroken = ftruncate(file, off_t(end)) != 0 }
    }

    private func length(at offset: Int) -> Int? {
        guard let bytes = Self.read(file, 4, at: offset), bytes.count == 4 else { return nil }
        let length = bytes.reversed().reduce(0) { $0 << 8 | Int($1) }
        guard length >= 32, length <= 32 + Self.maxBlocks * 64, (length - 32).isMultiple(of: 2 * idBytes) else { return nil }
        return length
    }

    private func record(at offset: Int) -> (key: [UInt8], refs: [BlockRef])? {
        guard let length = length(at: offset), let bytes = Self.read(file, length + 16, at: offset + 4), bytes.count == length + 16 else {
            return nil
        }
        let payload = Array(bytes.prefix(length))
        guard Self.checksum(payload) == Array(bytes.suffix(16)) else { return nil }
        var refs: [BlockRef] = []
        for start in stride(from: 32, to: length, by: 2 * idBytes) {
            guard let id = ChunkID(payload[start..<start + idBytes]), let key = BlockKey(payload[start + idBytes..<start + 2 * idBytes])
            else { return nil }
            refs.append(BlockRef(id: id, key: key, coding: coding))
        }
        return (Array(payload.prefix(32)), refs)
    }

    private static func checksum(_ payload: [UInt8]) -> [UInt8] {
        Array(payload.withUnsafeBytes { Blake2b.hash128($0) }.bytes.prefix(16))
    }

    private static func read(_ file: Int32, _ count: Int, at offset: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        let done = bytes.withUnsafeMutableBytes { pread(file, $0.baseAddress, count, off_t(offset)) }
        guard done >= 0 else { return nil }
        return Array(bytes.prefix(done))
    }

    /// A journal that cannot be written is no reason to stop: the next run reads more, that is all.
    private func write(_ bytes: [UInt8], at offset: Int) {
        guard !isBroken, !bytes.isEmpty else { return }
        let done = bytes.withUnsafeBytes { pwrite(file, $0.baseAddress, $0.count, off_t(offset)) }
        isBroken = done != bytes.count
    }
}
