internal import BlockCodec
internal import ChunkModel
internal import DecodedFiles
internal import Flist
internal import Synchronization

/// A regular file that is being read: its blocks, and the decoded file where there is one.
final class OpenInode: Sendable {
    let entry: FlistEntry
    let blocks: [BlockRef]
    /// For reads that go past the decoded files.
    let reader: FileReader
    private let current = Mutex<DecodedFile?>(nil)

    init(entry: FlistEntry, blocks: [BlockRef], reader: FileReader) { (self.entry, self.blocks, self.reader) = (entry, blocks, reader) }

    /// The decoded file, as long as the cache has it.
    var decoded: DecodedFile? {
        get {
            let (file, gone) = current.withLock { current -> (DecodedFile?, DecodedFile?) in
                guard let file = current else { return (nil, nil) }
                if !file.isGone { return (file, nil) }
                current = nil
                return (nil, file)
            }
            withExtendedLifetime(gone) {}
            return file
        }
        set { current.withLock { $0 = newValue } }
    }
}

/// The inodes read last, of all flists.
final class OpenInodes: Sendable {
    /// Blocks of all inodes that are remembered (88 bytes each); beyond, those used longest ago are looked up again when needed.
    static let maxBlocks = 256 * 1024
    static let maxInodes = 16_384

    struct Key: Hashable { let flist: FlistDigest, ino: Int64 }
    private struct Entry {
        let inode: OpenInode
        var used: UInt64
    }
    private struct State {
        var entries: [Key: Entry] = [:]
        var blocks = 0
        var clock: UInt64 = 0
    }
    private let state = Mutex(State())

    func known(_ key: Key) -> OpenInode? {
        state.withLock { state in
            guard let inode = state.entries[key]?.inode else { return nil }
            state.clock += 1
            state.entries[key]!.used = state.clock
            return inode
        }
    }

    /// Remembers the inode; the one that is known already wins.
    func insert(_ inode: OpenInode, _ key: Key) -> OpenInode {
        state.withLock { state in
            if let known = state.entries[key]?.inode { return known }
            state.clock += 1
            state.entries[key] = Entry(inode: inode, used: state.clock)
            state.blocks += inode.blocks.count
            guard state.blocks > Self.maxBlocks || state.entries.count > Self.maxInodes else { return inode }
            // Half of them at a time, so that sorting is rare.
            for (old, entry) in state.entries.sorted(by: { $0.value.used < $1.value.used }) {
                guard old != key, state.blocks > Self.maxBlocks / 2 || state.entries.count > Self.maxInodes / 2 else { break }
                state.blocks -= entry.inode.blocks.count
                state.entries[old] = nil
            }
            return inode
        }
    }

    func removeAll() { state.withLock { ($0.entries, $0.blocks) = ([:], 0) } }
}
