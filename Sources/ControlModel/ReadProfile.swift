public import ChunkModel

/// The chunks that something read, in the order of reading: what `chunkmesh trace` writes and `prefetch --profile` takes. docs/profiles.md
/// has the format.
public struct ReadProfile: Sendable, Equatable {
    /// Chunks of one profile: 64 GiB of content. A trace ends there; a longer file is refused.
    public static let maxEntries = 128 * 1024
    /// Bytes of a profile; a longer file is refused before it is read.
    public static let maxBytes = 16 << 20
    /// Bytes of a line; a longer one is no line of a profile.
    static let maxLineBytes = 512
    private static let title = "# chunkmesh read profile 1"

    /// Of the flist that was read; `nil` where the profile does not say.
    public var digest: FlistDigest?
    /// In order, each once.
    public var chunks: [ChunkID] = []

    public init(digest: FlistDigest?, chunks: [ChunkID]) { (self.digest, self.chunks) = (digest, chunks) }

    /// - Throws: `ReadProfileError` with the line that is wrong.
    public init(_ bytes: [UInt8]) throws(ReadProfileError) {
        guard bytes.count <= Self.maxBytes else { throw ReadProfileError(line: nil, "is longer than \(Self.maxBytes >> 20) MiB") }
        var number = 0
        var seen: Set<ChunkID> = []
        for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            let line = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
            guard line.count <= Self.maxLineBytes else { throw ReadProfileError(line: number, "is too long") }
            if number == 1 {
                guard line.elementsEqual(Self.title.utf8) else {
                    throw ReadProfileError(line: nil, "does not begin with \"\(Self.title)\"")
                }
                continue
            }
            if line.isEmpty || line.first == UInt8(ascii: "#") { continue }
            let words = line.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
            guard let first = words.first?.utf8.first, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
                // A word about the whole; those of later versions are passed over.
                if words.first == "digest" {
                    guard words.count == 2, let digest = FlistDigest(hex: words[1]) else {
                        throw ReadProfileError(line: number, "has no digest of 64 hex digits")
                    }
                    self.digest = digest
                }
                continue
            }
            guard words.count >= 3, words[0].utf8.allSatisfy(Self.isOfNumber), words[1].utf8.allSatisfy(Self.isOfNumber),
                let id = ChunkID(hex: words[2])
            else { throw ReadProfileError(line: number, "is not SECONDS INDEX CHUNK") }
            guard seen.insert(id).inserted else { continue }
            guard chunks.count < Self.maxEntries else { throw ReadProfileError(line: nil, "names more than \(Self.maxEntries) chunks") }
            chunks.append(id)
        }
        if number == 0 { throw ReadProfileError(line: nil, "is empty") }
    }

    private static func isOfNumber(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: ".")
    }

    /// The lines before the entries.
    ///
    /// - Parameter shown: the flist's name, as it may be shown: on one line.
    public static func head(of trace: Trace, shown: String) -> String {
        "\(title)\nflist \(shown)\ndigest \(trace.digest)\nchunks \(trace.chunks)\n"
    }

    public static func line(_ entry: Trace.Entry) -> String { "\(seconds(entry.seconds)) \(entry.index) \(entry.chunk)\n" }

    /// With three digits behind the point.
    private static func seconds(_ seconds: Double) -> String {
        let thousandths = Int64((min(max(seconds, 0), 1e12) * 1000).rounded())
        let rest = String(thousandths % 1000)
        return "\(thousandths / 1000).\(String(repeating: "0", count: 3 - rest.count))\(rest)"
    }
}

/// A file that is no profile; one clear line.
public struct ReadProfileError: Error, Sendable, Equatable, CustomStringConvertible {
    public let description: String

    init(line: Int?, _ reason: String) {
        description = (line.map { "line \($0) of the profile " } ?? "the profile ") + reason
    }
}
