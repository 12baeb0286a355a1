public import ChunkModel
internal import Glibc

/// A held chunk, open for `sendfile`: the descriptor belongs to this object and is closed with its last reference, and stays
/// readable when the chunk is evicted meanwhile.
public final class OpenChunk: Sendable {
    public let id: ChunkID
    /// Bytes from offset 0 of the file that are the chunk.
    public let size: Int
    private let file: FileHandle

    init(id: ChunkID, size: Int, file: FileHandle) { (self.id, self.size, self.file) = (id, size, file) }

    /// Valid while this object lives.
    public var fileDescriptor: Int32 { file.fd }
}
