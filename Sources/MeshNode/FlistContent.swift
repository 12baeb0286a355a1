internal import BlockCodec
internal import ChunkModel
internal import ControlModel
internal import DecodedFiles
internal import Flist
internal import LocalFiles
internal import ReadAPI
internal import Synchronization

/// A file of an flist, as the API serves it: from its decoded file, which mounts share, or past it where it has none.
final class FlistContent: ServedFile {
    private enum Kept {
        case unknown
        case file(DecodedFile)
        /// Its blocks are not cut as all writers cut them.
        case never
    }

    let file: OpenFile
    let entityTag: String
    private let flist: FlistDigest
    private let reading: ReadService
    private let kept: Mutex<Kept>

    /// - Parameter decoded: the decoded file, where there is one already.
    init(file: OpenFile, flist: FlistDigest, reading: ReadService, decoded: DecodedFile?) {
        (self.file, self.flist, self.reading, entityTag) = (file, flist, reading, file.contentTag)
        kept = Mutex(decoded.map { .file($0) } ?? .unknown)
    }

    var size: UInt64 { file.size }
    var mtime: Int64 { file.entry.mtime }

    func read(at offset: UInt64, atMost length: Int) async throws -> (buffer: ChunkBuffer, range: Range<Int>) {
        // To the end of the block at most: the next one is asked for when this one is on its way.
        let block = UInt64(ChunkLimits.blockBytes)
        let room = Int(block - offset % block)
        guard let slice = try await file.read(offset: offset, length: min(length, room)).first else {
            return (ChunkBuffer(capacity: 0), 0..<0)
        }
        return (slice.buffer, slice.range)
    }

    func ready(at offset: UInt64, atMost length: Int) -> (buffer: ChunkBuffer, range: Range<Int>)? {
        file.decoded(offset: offset, length: length).map { ($0.buffer, $0.range) }
    }

    // MARK: The decoded file

    func stored(at offset: UInt64, atMost length: Int) -> StoredBytes? {
        guard case .file(let decoded) = current(), let descriptor = reading.decoded.descriptorNow(of: decoded) else { return nil }
        let end = decoded.readyEnd(from: offset, upTo: offset.addingReportingOverflow(UInt64(clamping: length)).partialValue)
        guard end > offset else { return nil }
        let count = PageCache.resident(descriptor.fd, at: offset, count: Int(clamping: end - offset))
        guard count > 0 else { return nil }
        let range = offset..<offset + UInt64(count)
        reading.traces.note(range, in: file.blocks, of: flist)
        reading.decoded.noteHit(decoded)
        return StoredBytes(descriptor: descriptor.fd, range: range, owner: (decoded, descriptor))
    }

    func store(_ range: Range<UInt64>) async throws -> Bool {
        guard reading.decoded.isOn, size > ReadService.inlineBytes, let decoded = await decodedFile() else { return false }
        reading.traces.note(range, in: file.blocks, of: flist)
        let count = Int(clamping: range.upperBound - range.lowerBound)
        let blocks = decoded.blocks(offset: range.lowerBound, length: count)
        if decoded.ready(blocks) == nil {
            reading.decoded.noteMiss()
            do {
                try await reading.decoded.fill(decoded, blocks, priority: .foreground, from: reading.source(flist))
            } catch DecodedFileError.noRoom {
                return false
            } catch DecodedFileError.uneven {
                kept.withLock { $0 = .never }
                return false
            }
        }
        if let descriptor = reading.decoded.descriptorNow(of: decoded),
            PageCache.resident(descriptor.fd, at: range.lowerBound, count: count) == count
        {
            return true
        }
        return await reading.parts.threads.run { [reading] in
            guard let descriptor = try? reading.decoded.descriptor(of: decoded) else { return false }
            return PageCache.load(descriptor.fd, at: range.lowerBound, count: count)
        }
    }

    /// What is kept, as long as the cache has it.
    private func current() -> Kept {
        let (now, gone) = kept.withLock { kept -> (Kept, Kept) in
            guard case .file(let file) = kept, file.isGone else { return (kept, .unknown) }
            defer { kept = file.isUneven ? .never : .unknown }
            return (file.isUneven ? .never : .unknown, kept)
        }
        // Its last reference gives up its room: outside of the lock.
        withExtendedLifetime(gone) {}
        return now
    }

    /// The decoded file, made where there is none.
    private func decodedFile() async -> DecodedFile? {
        switch current() {
        case .file(let file): return file
        case .never: return nil
        case .unknown: break
        }
        let made = await reading.parts.threads.run { [file, reading] in reading.decoded.file(size: file.size, blocks: file.blocks) }
        if let made { kept.withLock { $0 = .file(made) } }
        return made
    }
}
