internal import Glibc
internal import Synchronization

/// What a node or a command knows to identify itself with at upstreams, beside what stands in their URLs.
public struct UpstreamCredentials: Sendable {
    private var file = CredentialsFile()
    var aws: AWSCredential?
    var awsRegion: String?

    /// None.
    public init() {}

    /// Reads the credentials file, the AWS variables and, where those are not set, AWS's own file. Blocking.
    ///
    /// - Parameters:
    ///   - file: in the format of netrc (`upstream.credentialsFile`).
    ///   - environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_SHARED_CREDENTIALS_FILE`, `AWS_PROFILE`,
    ///     `AWS_REGION`, `AWS_DEFAULT_REGION` and `HOME` are looked at.
    /// - Throws: when a file that was named cannot be used.
    public static func load(file: String?, environment: [String: String]) throws(CredentialsError) -> UpstreamCredentials {
        var credentials = UpstreamCredentials()
        if let file { credentials.file = try CredentialsFile.load(file) }
        let set = { (name: String) in environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        credentials.awsRegion = set("AWS_REGION") ?? set("AWS_DEFAULT_REGION")
        if let user = set("AWS_ACCESS_KEY_ID"), let password = set("AWS_SECRET_ACCESS_KEY") {
            credentials.aws = AWSCredential(keys: Credential(user: user, password: password), sessionToken: set("AWS_SESSION_TOKEN"))
            return credentials
        }
        let profile = set("AWS_PROFILE")
        if let named = set("AWS_SHARED_CREDENTIALS_FILE") {
            credentials.aws = try profileKeys(named, profile)
        } else if let home = set("HOME") {
            // Not named by anybody: where it is not there or cannot be read, there are no such credentials.
            credentials.aws = try? profileKeys(home + "/.aws/credentials", profile)
        }
        return credentials
    }

    /// With the environment of this process. Blocking.
    public static func load(file: String?) throws(CredentialsError) -> UpstreamCredentials {
        var environment: [String: String] = [:]
        for name in [
            "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE", "AWS_REGION",
            "AWS_DEFAULT_REGION", "HOME",
        ] {
            if let value = getenv(name) { environment[name] = String(cString: value) }
        }
        return try load(file: file, environment: environment)
    }

    func credential(for endpoint: Endpoint) -> Credential? { file.credential(for: endpoint) }

    /// The keys of one `[profile]` in AWS's INI file.
    private static func profileKeys(_ path: String, _ profile: String?) throws(CredentialsError) -> AWSCredential? {
        let (text, _) = try TextFile.read(path, maxBytes: CredentialsFile.maxBytes)
        let wanted = profile ?? "default"
        var isWanted = false
        var values: [String: String] = [:]
        for line in text.split(separator: "\n") {
            let line = line.trimmed
            if line.hasPrefix("["), line.hasSuffix("]") {
                isWanted = line.dropFirst().dropLast().trimmed == wanted
            } else if isWanted, !line.hasPrefix("#"), !line.hasPrefix(";"), let equals = line.firstIndex(of: "=") {
                values[line[..<equals].trimmed.lowercased()] = String(line[line.index(after: equals)...].trimmed)
            }
        }
        guard let user = values["aws_access_key_id"], let password = values["aws_secret_access_key"] else {
            if profile == nil { return nil }
            throw CredentialsError(place: path, reason: "holds no keys of the profile that AWS_PROFILE names")
        }
        return AWSCredential(keys: Credential(user: user, password: password), sessionToken: values["aws_session_token"])
    }
}

/// The credentials in force, which a reload replaces; open stores ask for theirs with each request.
final class CredentialBox: Sendable {
    private let current: Mutex<UpstreamCredentials>
    /// Hosts that the operator or the user named, for which the keys of the environment and of AWS's file are meant. An flist's routes
    /// add nothing to them.
    private let named: Set<Endpoint>

    init(_ credentials: UpstreamCredentials, named: Set<Endpoint>) {
        current = Mutex(credentials)
        self.named = named
    }

    func set(_ credentials: UpstreamCredentials) { current.withLock { $0 = credentials } }

    /// Of the credentials file.
    func credential(for endpoint: Endpoint) -> Credential? { current.withLock { $0.credential(for: endpoint) } }

    /// The URL's own, else those of the credentials file.
    func basic(for url: UpstreamURL) -> CurlRequest.Authorization? {
        (url.credential ?? credential(for: url.endpoint)).map { .basic($0) }
    }

    /// Of the credentials file, else of the environment and AWS's file where the host was named.
    func aws(for endpoint: Endpoint) -> AWSCredential? {
        current.withLock { credentials in
            if let found = credentials.credential(for: endpoint) { return AWSCredential(keys: found) }
            return named.contains(endpoint) ? credentials.aws : nil
        }
    }

    func awsRegion(for endpoint: Endpoint) -> String? {
        named.contains(endpoint) ? current.withLock { $0.awsRegion } : nil
    }
}

extension StringProtocol {
    /// Without white space at both ends.
    var trimmed: SubSequence {
        guard let first = firstIndex(where: { !$0.isWhitespace }), let last = lastIndex(where: { !$0.isWhitespace }) else {
            return self[endIndex...]
        }
        return self[first...last]
    }
}
