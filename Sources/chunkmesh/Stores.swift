import ChunkModel
import FlistTools
import UpstreamStores

/// Stores by URL, for commands that write to them.
enum Stores {
    private static let opener = StoreOpener(curl: CurlMulti())

    /// - Throws: with one line when nothing can be written there.
    static func openSink(_ url: String) throws -> any ChunkSink { try opener.openSink(url) }
}
