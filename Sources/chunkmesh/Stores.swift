import ChunkModel
import FlistTools

/// Stores by URL, for commands that write to them.
enum Stores {
    static func openSink(_ url: String) throws -> any ChunkSink { try PackStore.directoriesOnly(url) }
}
