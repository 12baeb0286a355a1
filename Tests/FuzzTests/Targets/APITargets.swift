@testable import ControlAPI
import ControlModel
import Hummingbird

extension FuzzTarget {
    /// What stands in requests to a node's API: a Range header, a path with escapes, an authority.
    static let apiRequest = FuzzTarget(
        name: "api-request", maxLength: 1_024,
        seeds: {
            [
                "bytes=0-99", "bytes=-5", "bytes=7-", "bytes=18446744073709551615-18446744073709551615", "/v1/flists/a%2fb/files/x%ff/y",
                "[::1]:7947",
            ]
            .map { [100, 0, 0, 0, 0, 0, 0, 0] + Array($0.utf8) }
        },
        run: { bytes in
            var input = FuzzInput(bytes)
            let size = input.number(8)
            let rest = input.all()
            let text = String(decoding: rest, as: UTF8.self)
            if case .parts(let ranges) = ByteRanges(header: text, size: size) {
                fuzzCheck(ranges.allSatisfy { !$0.isEmpty && $0.upperBound <= size }, "a range outside the file")
                fuzzCheck(!ranges.isEmpty && ranges.count <= ByteRanges.maxRanges, "too many ranges, or none")
            }
            _ = EntityTags.list(text, names: "\"a\"", weakly: true)
            if let date = HTTPDate.parse(text) { fuzzCheck(HTTPDate.shown(date) == date, "a date out of bounds") }
            _ = ContentType.of(rest)
            for segments in 0...5 { _ = RequestPath.bytes(of: text, after: segments) }
            if let decoded = RequestPath.decode(rest) { fuzzCheck(decoded.count <= rest.count, "escapes that grow") }
            _ = LocalOnly<BasicRequestContext>.isAddress(text)
            fuzzCheck(HTTPDate.format(Int64(bitPattern: size)).utf8.count == 29, "a date of another length")
        })

    /// Bodies of PROPFIND.
    static let davBody = FuzzTarget(
        name: "dav-body", maxLength: 4_096,
        seeds: {
            [
                "<?xml version=\"1.0\"?><propfind xmlns=\"DAV:\"><prop><getetag/><x:y xmlns:x=\"u&amp;v\"/></prop></propfind>",
                "<D:propfind xmlns:D='DAV:'><!-- c --><D:allprop/><D:include><D:getetag/></D:include></D:propfind>",
                "<propfind xmlns=\"DAV:\"><propname/></propfind>", "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>",
                "<a><![CDATA[<]]></a>",
            ]
            .map { Array($0.utf8) }
        },
        run: { bytes in
            guard let properties = try? DAVProperties(bytes) else { return }
            if case .some(let names) = properties { fuzzCheck(names.count <= DAVProperties.maxNames, "too many names") }
            // What was taken in goes out as XML that can be read.
            let answer = properties.answer(for: DAVEntry(href: "/", name: bytes, modified: 0))
            var reader = XMLReader(Array("<r xmlns:D=\"DAV:\">\(answer)</r>".utf8))
            do { while try reader.next() != nil {} } catch { fuzzCheck(false, "an answer that is no XML: \(error)") }
        })

    /// Profiles of reads.
    static let readProfile = FuzzTarget(
        name: "read-profile", maxLength: 4_096,
        seeds: {
            [
                "# chunkmesh read profile 1\nflist x\ndigest \(String(repeating: "a", count: 64))\nchunks 2\n",
                "# chunkmesh read profile 1\n# text\n0.000 1 \(String(repeating: "0", count: 64))\r\n12.5 0 \(String(repeating: "f", count: 32))",
            ]
            .map { Array($0.utf8) }
        },
        run: { bytes in
            if let profile = try? ReadProfile(bytes) { fuzzCheck(Set(profile.chunks).count == profile.chunks.count, "a chunk twice") }
        })
}
