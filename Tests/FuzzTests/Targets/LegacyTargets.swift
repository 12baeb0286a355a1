import Archives
import Flist
@testable import LegacyFlist

extension FuzzTarget {
    /// The database of a legacy flist, put into an archive, opened through its index, and read as a node reads an flist.
    static let legacyFlist = FuzzTarget(
        name: "legacy-flist", maxLength: 32 << 10, maxMegabytes: 768, maxSeconds: 20,
        seeds: { LegacySeeds.databases + [ScratchFile.database(LegacySeeds.small)] },
        run: { bytes in
            ScratchFile.with(LegacySeeds.tar("flistdb.sqlite3", bytes), suffix: ".flist") { path in
                let scratch = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
                do throws(FlistError) {
                    read(try FlistFormat.open(path: path, scratch: scratch))
                } catch {
                    fuzzCheck(!error.description.isEmpty, "an error without a line")
                }
            }
        })

    /// `router.yaml` of a legacy flist, and the same bytes as the backend in its metadata.
    static let router = FuzzTarget(
        name: "router-yaml", maxLength: 16 << 10, maxMegabytes: 256,
        seeds: {
            [
                "pools:\n  a:\n    00:7f: zdb://pass@h:9900\n    '80:ff': ardb://h:1\n  b: {012: redis://[::1]:6379/ns}\nlookup: [a]\ncache: [b]\n",
                "{\"host\": \"h\", \"port\": 9900, \"namespace\": \"n\", \"password\": \"x\"}", "lookup: [a, a]\npools: {}\n",
                String(repeating: "[", count: 12_000),
            ].map { Array($0.utf8) }
        },
        run: { bytes in
            if let routes = try? RouterFile.routes(bytes) { fuzzCheck(routes.count <= 2 * RouterFile.maxRules, "too many routes") }
            _ = try? Backend.route(bytes, tier: 0)
        })

    /// A record of a legacy flist: a directory with its entries and their blocks, and the same bytes as access rights.
    static let legacyRecord = FuzzTarget(
        name: "legacy-record", maxLength: 16 << 10, maxMegabytes: 256,
        seeds: { LegacySeeds.records },
        run: { bytes in
            _ = try? LegacyACI(bytes)
            guard var directory = try? LegacyDirectory(bytes) else { return }
            // Whoever reads on after an error in one entry is stopped by the message's budget.
            var reads = 0
            for index in 0..<directory.entries.count {
                var name: [UInt8] = []
                reads += 1
                do throws(CapnpError) {
                    let entry = try directory.entry(index, name: &name)
                    guard case .file(_, let blocks) = entry.kind else { continue }
                    for block in 0..<blocks.count {
                        reads += 1
                        do throws(CapnpError) { _ = try directory.block(blocks, block) } catch { if error.endsMessage { break } }
                    }
                } catch {
                    fuzzCheck(!error.reason.isEmpty, "an error without a line")
                    if error.endsMessage { break }
                }
            }
            fuzzCheck(reads <= CapnpMessage.readsPerWord * bytes.count + 1_024, "\(reads) reads of \(bytes.count) bytes")
        })
}

enum LegacySeeds {
    /// A tar archive of one regular file.
    static func tar(_ name: String, _ body: [UInt8]) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 512)
        func octal(_ number: Int, _ digits: Int) -> String {
            let text = String(number, radix: 8)
            return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
        }
        func put(_ text: String, at offset: Int) { header.replaceSubrange(offset..<offset + text.utf8.count, with: text.utf8) }
        put(name, at: 0)
        put("0000644\0" + "0000000\0" + "0000000\0" + octal(body.count, 11) + "\0" + "00000000000\0" + "        0", at: 100)
        put("ustar\u{0}00", at: 257)
        put(octal(header.reduce(0) { $0 + Int($1) }, 6) + "\0 ", at: 148)
        return header + body + [UInt8](repeating: 0, count: (512 - body.count % 512) % 512 + 1024)
    }

    /// The root's record, and the rights that it names.
    static let small: String = {
        func hex(_ bytes: [UInt8]) -> String { bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined() }
        let root = String(decoding: DirectoryKey.root.text, as: UTF8.self)
        return """
            CREATE TABLE entries (key VARCHAR(64) PRIMARY KEY, value BLOB); CREATE TABLE metadata (key PRIMARY KEY, value);
            INSERT INTO entries VALUES ('\(root)', x'\(hex(records[0]))'), ('0123456789abcdef', x'\(hex(records[1]))');
            INSERT INTO metadata VALUES ('backend', '{"host": "h", "port": 9900}');
            """
    }()

    /// Databases of the fixtures' archives.
    static var databases: [[UInt8]] {
        ScratchFile.fixtures("malformed-legacy", suffix: ".flist", upTo: 16 << 10).compactMap { archive in
            var rest = archive[...]
            let limits = ArchiveLimits(unpackedBytes: 1 << 20, members: 10)
            let reader = try? TarReader(label: "seed", limits: limits) { buffer in
                let piece = rest.prefix(buffer.count)
                buffer.copyBytes(from: piece)
                rest = rest.dropFirst(piece.count)
                return piece.count
            }
            while let member = try? reader?.next() {
                if String(decoding: member.plainPath, as: UTF8.self) == "flistdb.sqlite3" { return try? reader?.body(limit: 32 << 10) }
            }
            return nil
        }
    }

    /// A directory of two entries, as a writer of one segment makes it: built by hand, since no writer is part of this program.
    static let records: [[UInt8]] = {
        func structure(_ offset: Int, _ data: UInt64, _ pointers: UInt64) -> UInt64 {
            UInt64(UInt32(bitPattern: Int32(offset << 2))) | data << 32 | pointers << 48
        }
        func list(_ offset: Int, _ kind: UInt64, _ count: UInt64) -> UInt64 {
            UInt64(UInt32(bitPattern: Int32(offset << 2))) | 1 | kind << 32 | count << 35
        }
        // Dir: 2 words, 5 pointers, with a contents list of one Inode (3, 3) that is a file with one block.
        let directory: [UInt64] = [
            structure(0, 2, 5), 4096, 7, 0, 0, list(2, 7, 6), 0, list(18, 2, 3),
            // tag of the list, the inode
            structure(1, 3, 3), 5, 1, 0, list(2, 2, 2), structure(2, 1, 1), 0,
            // name, then File (1, 1)
            0x61, 128, list(0, 7, 2), structure(1, 0, 2), list(1, 2, 16), list(2, 2, 16), 1, 2, 3, 4, 0x6261,
        ]
        let rights: [UInt64] = [structure(0, 3, 3), 0o644, UInt64.max ^ 1000, UInt64.max ^ 100, list(2, 2, 5), 0, 0, 0x746f_6f72]
        return [directory, rights].map { words in
            var out: [UInt8] = [0, 0, 0, 0] + (0..<4).map { UInt8(truncatingIfNeeded: words.count >> (8 * $0)) }
            out += words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) } }
            return out
        }
    }()
}
