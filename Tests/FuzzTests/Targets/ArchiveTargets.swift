import Archives

extension FuzzTarget {
    /// A tar archive, plain or compressed, as legacy flists and container images are; the first byte says how it arrives.
    static let archive = FuzzTarget(
        name: "archive", maxLength: 32 << 10, maxMegabytes: 768, maxSeconds: 10,
        seeds: {
            (ScratchFile.fixtures("malformed-legacy", suffix: ".flist", upTo: 16 << 10) + [
                LegacySeeds.tar("./flistdb.sqlite3", Array("hello".utf8))
            ]).map { [255] + $0 }
        },
        run: { bytes in
            guard let first = bytes.first else { return }
            var rest = bytes.dropFirst()
            let limits = ArchiveLimits(unpackedBytes: 8 << 20, members: 300)
            do {
                let reader = try TarReader(label: "fuzz", accepting: Set(ArchiveCompression.allCases), limits: limits) { buffer in
                    let piece = rest.prefix(min(buffer.count, Int(first) * 64 + 1))
                    buffer.copyBytes(from: piece)
                    rest = rest.dropFirst(piece.count)
                    return piece.count
                }
                var members = 0
                while let member = try reader.next() {
                    members += 1
                    fuzzCheck(members <= limits.members, "more members than the limit")
                    fuzzCheck(member.path.count <= limits.pathBytes, "a path over the limit")
                    // Every other body is passed over.
                    if members & 1 == 1 { fuzzCheck(try reader.body(limit: 1 << 20).count <= 1 << 20, "a body over the limit") }
                }
            } catch {
                fuzzCheck("\(error)".hasPrefix("fuzz: "), "an error without a label: \(error)")
            }
        })
}
