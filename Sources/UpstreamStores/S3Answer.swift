/// What an S3 server said in the XML body of an error. The body is hostile text: only two short words are taken from it.
struct S3Answer: Sendable, Equatable {
    /// Longer values are taken as absent.
    static let maxWordBytes = 64

    /// `NoSuchKey`, `SignatureDoesNotMatch`, …
    let code: String?
    /// Where the bucket lies, when the request was signed for another region.
    let region: String?

    /// - Parameter body: the beginning of it.
    init(_ body: [UInt8]) {
        code = Self.word(body, "Code")
        region = Self.word(body, "Region")
    }

    /// The first `<name>word</name>`.
    private static func word(_ body: [UInt8], _ name: String) -> String? {
        let tag = Array("<\(name)>".utf8)
        guard body.count > tag.count,
            let start = body.indices.dropLast(tag.count).first(where: { body[$0] == tag[0] && body[$0..<$0 + tag.count].elementsEqual(tag) }
            )
        else { return nil }
        let value = body[(start + tag.count)...].prefix(maxWordBytes + 1).prefix { $0 != UInt8(ascii: "<") }
        guard (1...maxWordBytes).contains(value.count), value.allSatisfy(isWordByte) else { return nil }
        return String(decoding: value, as: UTF8.self)
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte) || byte == 0x2d || byte == 0x2e
            || byte == 0x5f
    }

    /// What the code means and what to do about it, beginning with a colon; empty where there is no code.
    ///
    /// - Parameter isAnonymous: the request was sent without keys.
    func explanation(bucket: String, isAnonymous: Bool) -> String {
        guard let code else { return "" }
        let meaning: String? =
            switch code {
            case "NoSuchBucket": "there is no bucket \(bucket)"
            case "AccessDenied" where isAnonymous: "the bucket is not open to everybody and there are no keys for this host"
            case "AccessDenied", "AllAccessDisabled", "AccountProblem": "these keys may not do this"
            case "InvalidAccessKeyId": "the access key is not known there"
            case "SignatureDoesNotMatch": "the secret key is wrong"
            case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
                "the clock of this machine and the server's differ too much; set the time"
            case "ExpiredToken", "InvalidToken", "TokenRefreshRequired": "the session token is no longer valid"
            case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
                "the bucket lies \(region.map { "in region \($0); add ?region=\($0)" } ?? "in another region or at another host")"
            case "SlowDown", "ServiceUnavailable", "Busy": "the server has too much to do"
            case "QuotaExceeded", "XMinioStorageFull", "EntityTooLarge": "no room is left there"
            default: nil
            }
        return meaning.map { ": \($0) (\(code))" } ?? " (\(code))"
    }
}
