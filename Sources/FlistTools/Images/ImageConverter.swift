internal import Archives
internal import BlockCodec
internal import ChunkModel
public import Flist
internal import SQLiteFile

/// Which image to convert, and how far.
public struct ImageOptions: Sendable {
    /// An archive of `docker save`, or an OCI layout: a directory, or an archive of one. Archives may be compressed (gzip, zstd).
    public var image: String
    /// NAME, NAME:TAG or TAG, where there are several images.
    public var name: String?
    /// This machine's when `nil`, where there are images for several.
    public var platform: ImagePlatform?
    public var limits = ImageLimits()
    /// Output, stores, routes, tags, codec. The image's own tags come first.
    public var session: PackSession.Options

    public init(image: String, session: PackSession.Options) { (self.image, self.session) = (image, session) }
}

/// How far converting is: bytes of layers as they lie in the image.
public struct ImageProgress: Sendable {
    public var bytesDone: UInt64 = 0
    public var bytesTotal: UInt64 = 0
}

/// What converting did. It went wholly well when `problemCount` is 0.
public struct ImageReport: Sendable {
    /// What the image is called, where it has a name.
    public var name: String?
    /// Of its manifest, or of its configuration in an archive that has no manifest of its own.
    public var digest = ""
    public var platform: String?
    public var layers = 0
    public var entries = 0
    public var files = 0
    public var directories = 0
    public var bytes: UInt64 = 0
    public var blocks = 0
    public var newChunks = 0
    public var newBytes: UInt64 = 0
    /// Entries of layers that upper layers hide; their content was not encoded.
    public var hiddenEntries = 0
    public var whiteouts = 0
    /// Entries that lost extended attributes.
    public var attributes = 0
    public var tags: [FlistTag] = []
    /// One line for each entry that was left out; at most `FlistPacker.maxLines`.
    public var problems: [String] = []
    public var problemCount = 0
    public var notes: [String] = []
}

/// Makes an `.fl` of a container image: its layers put upon each other, its configuration as tags.
///
/// Layers are read from the top downwards, so that nothing is encoded or sent which an upper layer hides. Each is read once, as a stream;
/// only a hard link to a file that an upper layer hides takes reading its layer again. Digests of the manifest, the configuration and all
/// layers are checked, compressed and not, before there is an flist. Memory does not grow with the image.
///
/// A hard link becomes an inode of its own with the same blocks. Extended attributes are dropped, with a note: an flist holds none.
public enum ImageConverter {
    /// Blocks: never on the cooperative pool.
    ///
    /// - Parameter progress: called for each piece that is read, and while stores work; when it throws, converting stops, and there is no
    ///   flist.
    /// - Throws: `ToolError` when there can be no flist: the image is damaged or not there, a store doesn't work.
    public static func convert(_ options: ImageOptions, progress: @escaping (ImageProgress) throws -> Void = { _ in }) throws -> ImageReport
    {
        let keeper = ImageReportKeeper(progress)
        do {
            return try run(options, keeper)
        } catch let error as ArchiveError {
            // A reader of archives tells in its own words why it could not go on.
            throw keeper.stop ?? ToolError(error.message)
        } catch let error as SQLiteError {
            throw ToolError.scratch(error)
        }
    }

    private static func run(_ options: ImageOptions, _ keeper: ImageReportKeeper) throws -> ImageReport {
        let blobs = try ImageBlobs(path: options.image, limits: options.limits) { try keeper.check() }
        let image = try ImageIndex.find(blobs, name: options.name, platform: options.platform, limits: options.limits)
        keeper.progress.bytesTotal = image.layers.reduce(0) { $0 &+ UInt64(clamping: $1.size) }
        if options.platform == nil, let platform = image.platform, !ImagePlatform.here.accepts(platform) {
            keeper.note("the image is for \(FlistPath.quoted(Array(platform.description.utf8))), this machine is \(ImagePlatform.here)")
        }
        let (tags, dropped) = ImageTags.of(image)
        for line in dropped { keeper.note(line) }
        keeper.report.tags = tags

        let session = try PackSession(options.session)
        session.check = { try keeper.check() }
        do {
            let tree = try LayerTree()
            var limits = options.limits
            for (index, layer) in image.layers.enumerated().reversed() {
                try read(layer, number: index + 1, blobs, tree, session, keeper, &limits)
            }
            try write(tree, session, keeper)
            for tag in try TagChanges(set: options.session.tags).applied(to: tags) where tag.key != FlistTag.codec {
                try session.add(tag: tag)
            }
            try session.finish()
        } catch {
            session.abort()
            throw error
        }
        var report = keeper.report
        if report.attributes > 0 {
            report.notes.append("\(report.attributes) entries have extended attributes, which an flist cannot hold: they are dropped")
        }
        (report.name, report.digest, report.platform) = (image.names.first, image.digest.description, image.platform?.description)
        report.layers = image.layers.count
        (report.blocks, report.newChunks, report.newBytes) = (session.totals.blocks, session.totals.newChunks, session.totals.newBytes)
        return report
    }

    // MARK: Layers

    private static func read(
        _ layer: ImageManifest.Layer, number: Int, _ blobs: ImageBlobs, _ tree: LayerTree, _ session: PackSession,
        _ keeper: ImageReportKeeper, _ limits: inout ImageLimits
    ) throws {
        let label = "\(blobs.label): layer \(number)"
        let pass = LayerPass(Int64(number), of: tree, session: session, report: keeper)
        try open(layer, label, blobs, keeper, &limits) { member, tar in
            try pass.add(member, from: tar)
        }
        guard pass.isWaiting else { return }
        // Counted again: what is read three times takes its time three times.
        keeper.progress.bytesTotal &+= 2 * UInt64(clamping: layer.size)
        pass.beginAgain()
        try open(layer, label, blobs, keeper, &limits) { member, _ in pass.findWaiting(member) }
        pass.beginAgain()
        try open(layer, label, blobs, keeper, &limits) { member, tar in
            try pass.addWaiting(member, from: tar)
        }
        try pass.endWaiting()
    }

    /// Reads a layer from front to end, its digests checked at the end.
    private static func open(
        _ layer: ImageManifest.Layer, _ label: String, _ blobs: ImageBlobs, _ keeper: ImageReportKeeper, _ limits: inout ImageLimits,
        _ body: (TarMember, TarReader) throws -> Void
    ) throws {
        guard let (raw, _) = try blobs.open(layer.name) else { throw ToolError("\(label) is not in it") }
        let stored = layer.digest.map { (digest: $0, stream: ImageDigestStream($0.algorithm)) }
        let plain = layer.diffID.map { (digest: $0, stream: ImageDigestStream($0.algorithm)) }
        let counted: ByteSource = { buffer in
            let count = try raw(buffer)
            keeper.progress.bytesDone &+= UInt64(count)
            try keeper.check()
            return count
        }
        let source = stored?.stream.watching(counted) ?? counted
        let (head, whole) = try peeking(source, 4)
        let compression = ArchiveCompression(head: head)
        var bytes: Int64 = 0
        let inflated = try compression.inflating(whole, label: label, limit: limits.bytes)
        let watched = plain?.stream.watching(inflated) ?? inflated
        // No bytes at all are no archive to a reader of archives, but an empty layer.
        let (start, unpacked) = try peeking(
            { buffer in
                let count = try watched(buffer)
                bytes += Int64(count)
                return count
            }, 1)
        var members = 0
        if !start.isEmpty {
            let tar = try TarReader(
                label: label, accepting: [.none],
                limits: ArchiveLimits(unpackedBytes: limits.bytes, members: limits.entries, pathBytes: ImageLimits.pathBytes),
                source: unpacked)
            while let member = try tar.next() {
                members += 1
                try keeper.check()
                try body(member, tar)
            }
        }
        // What stands behind the archive's end belongs to the digests.
        var rest = [UInt8](repeating: 0, count: 64 << 10)
        while try rest.withUnsafeMutableBytes({ try unpacked($0) }) > 0 {}
        while try rest.withUnsafeMutableBytes({ try whole($0) }) > 0 {}
        for (digest, stream) in [stored, plain].compactMap({ $0 }) where stream.finish() != digest {
            throw ToolError("\(label): damaged image: the layer has other bytes than its digest \(digest) says")
        }
        limits.entries -= members
        limits.bytes -= bytes
    }

    /// The first `wanted` bytes (fewer where there are no more), and a source that begins with them.
    private static func peeking(_ source: @escaping ByteSource, _ wanted: Int) throws -> (head: [UInt8], source: ByteSource) {
        var head = [UInt8](repeating: 0, count: wanted)
        var filled = 0
        while filled < wanted {
            let count = try head.withUnsafeMutableBytes { try source(UnsafeMutableRawBufferPointer(rebasing: $0[filled...])) }
            if count == 0 { break }
            filled += count
        }
        head.removeSubrange(filled...)
        var left = head
        return (
            head,
            { buffer in
                guard !left.isEmpty else { return try source(buffer) }
                let count = min(left.count, buffer.count)
                buffer.copyBytes(from: left.prefix(count))
                left.removeFirst(count)
                return count
            }
        )
    }

    // MARK: The flist

    private static func write(_ tree: LayerTree, _ session: PackSession, _ keeper: ImageReportKeeper) throws {
        try session.drain()
        var written = WrittenTree()
        try tree.walk(check: { try keeper.check() }) { found in
            try session.add(found.row(found.id))
            // A hard link: the same blocks once more.
            if found.entry.kind == .file, found.entry.content != found.id, found.entry.content != 0 {
                try session.copyBlocks(of: found.entry.content, to: found.id)
            }
            written.count(found.entry)
            return found.id
        }
        for ino in keeper.replaced { session.dropBlocks(of: ino) }
        (keeper.report.entries, keeper.report.files) = (written.entries, written.files)
        (keeper.report.directories, keeper.report.bytes) = (written.directories, written.bytes)
    }
}

/// What is found out while layers are read.
final class ImageReportKeeper {
    var report = ImageReport()
    var progress = ImageProgress()
    /// Files that later ones of the same layer replaced; their blocks are not wanted, but where hard links have them too.
    var replaced: Set<Int64> = []
    private let tell: (ImageProgress) throws -> Void

    init(_ tell: @escaping (ImageProgress) throws -> Void) { self.tell = tell }

    var attributes: Int {
        get { report.attributes }
        set { report.attributes = newValue }
    }
    var whiteouts: Int {
        get { report.whiteouts }
        set { report.whiteouts = newValue }
    }

    /// What the caller stopped with.
    private(set) var stop: (any Error)?

    func check() throws {
        do { try tell(progress) } catch {
            stop = error
            throw error
        }
    }

    func problem(_ path: [UInt8], _ text: String) {
        report.problemCount += 1
        if report.problems.count < FlistPacker.maxLines { report.problems.append("\(FlistPath.quoted(path)): \(text)") }
    }

    func note(_ text: String) { if report.notes.count < FlistPacker.maxLines { report.notes.append(text) } }
}
