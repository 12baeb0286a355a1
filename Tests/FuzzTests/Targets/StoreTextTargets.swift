import ChunkModel
@testable import UpstreamStores

extension FuzzTarget {
    /// Error bodies of S3 servers, S3 routes of an flist, and escapes in URLs.
    static let s3Text = FuzzTarget(
        name: "s3", maxLength: 3_000,
        seeds: {
            [
                "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Region>eu-central-1</Region></Error>",
                "s3://access:se%2Fcret@host:9000/bucket/prefix?region=eu-1", "s3s://s3.eu-central-1.amazonaws.com/b", "s3://h/../b",
            ].map { Array($0.utf8) }
        },
        run: { bytes in
            let answer = S3Answer(bytes)
            for word in [answer.code, answer.region] {
                fuzzCheck((word?.utf8.count ?? 0) <= S3Answer.maxWordBytes, "a word over the limit")
            }
            _ = answer.explanation(bucket: "b", isAnonymous: true)
            let text = String(decoding: bytes, as: UTF8.self)
            _ = PercentText.decoded(text)
            if let sum = FlistDownload.sum(in: bytes) { fuzzCheck(sum.utf8.count == 32, "no MD5") }
            if let server = try? BlockServerURL(text) { fuzzCheck(!server.label.contains("token"), "a token in a label") }
            guard let url = try? S3URL(text) else { return }
            fuzzCheck(!url.base.contains("@") && !url.label.contains("@"), "keys in a label")
            // By bytes: a mark that combines with the last slash makes another character of it.
            fuzzCheck(url.base.utf8.starts(with: "http://".utf8) || url.base.utf8.starts(with: "https://".utf8), "another scheme")
        })

    /// A file of names and passwords by host.
    static let credentials = FuzzTarget(
        name: "credentials", maxLength: 2_048,
        seeds: {
            ["machine h login a password b\nmachine [::1]:9 password \"a \\\" b\" # x\n", "default login x", "machine h:0 password p"]
                .map { Array($0.utf8) }
        },
        run: { bytes in
            do throws(CredentialsError) { _ = try CredentialsFile(parsing: String(decoding: bytes, as: UTF8.self), place: "fuzz") } catch {
                fuzzCheck("\(error)".hasPrefix("fuzz:"), "an error without a place")
            }
        })
}
