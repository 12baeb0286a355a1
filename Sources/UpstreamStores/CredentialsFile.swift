internal import Glibc

/// Names and passwords by host, in the format of netrc: `machine HOST[:PORT] login NAME password SECRET`, words apart by white space or new
/// lines, `"…"` around words with blanks, `#` comments.
struct CredentialsFile: Sendable {
    /// A larger file is refused unread.
    static let maxBytes = 1 << 20

    private var entries: [(machine: Endpoint, credential: Credential)] = []

    init() {}

    /// Reads the file. Blocking.
    ///
    /// - Throws: when it cannot be read, everybody on the machine may read it, or a line is none of netrc.
    static func load(_ path: String) throws(CredentialsError) -> CredentialsFile {
        let (text, mode) = try TextFile.read(path, maxBytes: maxBytes)
        guard mode & 0o007 == 0 else {
            throw CredentialsError(place: path, reason: "everybody on this machine may read these credentials; run chmod o= on it")
        }
        return try CredentialsFile(parsing: text, place: path)
    }

    init(parsing text: String, place: String) throws(CredentialsError) {
        var words = try Self.words(of: text, place: place)[...]
        while let word = words.popFirst() {
            guard word.text == "machine" else {
                let reason =
                    word.text == "default"
                    ? "default would send the password to any host that an flist names; write machine HOST"
                    : word.text == "macdef" ? "macdef is not supported" : "machine HOST expected"
                throw CredentialsError(place: "\(place):\(word.line)", reason: reason)
            }
            guard let name = words.popFirst(), let machine = Self.machine(name.text) else {
                throw CredentialsError(place: "\(place):\(word.line)", reason: "machine takes HOST or HOST:PORT")
            }
            var (user, password) = ("", String?.none)
            while let key = words.first, ["login", "password", "account"].contains(key.text) {
                guard words.count > 1 else { throw CredentialsError(place: "\(place):\(key.line)", reason: "\(key.text) takes a word") }
                words = words.dropFirst()
                let value = words.removeFirst().text
                if key.text == "login" { user = value }
                if key.text == "password" { password = value }
            }
            guard let password else {
                throw CredentialsError(place: "\(place):\(word.line)", reason: "this machine has no password")
            }
            entries.append((machine, Credential(user: user, password: password)))
        }
    }

    /// The credential for `endpoint`: the first with its port, else the first for its host.
    func credential(for endpoint: Endpoint) -> Credential? {
        let ofHost = entries.filter { $0.machine.host == endpoint.host }
        return (ofHost.first { $0.machine.port == endpoint.port } ?? ofHost.first { $0.machine.port == Self.anyPort })?.credential
    }

    private static let anyPort = 0

    private static func machine(_ text: String) -> Endpoint? {
        guard !text.contains("/"), !text.contains("@") else { return nil }
        let colons = text.filter { $0 == ":" }.count
        let isBracketed = text.hasPrefix("[")
        guard let colon = text.lastIndex(of: ":"), isBracketed ? !text.hasSuffix("]") : colons == 1 else {
            return text.isEmpty ? nil : Endpoint(host: text, port: anyPort)
        }
        guard let port = Int(text[text.index(after: colon)...]), (1...65_535).contains(port), colon > text.startIndex else { return nil }
        return Endpoint(host: String(text[..<colon]), port: port)
    }

    private static func words(of text: String, place: String) throws(CredentialsError) -> [(text: String, line: Int)] {
        var words: [(text: String, line: Int)] = []
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            var rest = line[...]
            while let first = rest.first {
                if first.isWhitespace {
                    rest = rest.dropFirst()
                } else if first == "#" {
                    break
                } else if first == "\"" {
                    guard let (word, after) = quoted(rest.dropFirst()) else {
                        throw CredentialsError(place: "\(place):\(number + 1)", reason: "a quoted word does not end on its line")
                    }
                    words.append((word, number + 1))
                    rest = after
                } else {
                    let word = rest.prefix { !$0.isWhitespace }
                    words.append((String(word), number + 1))
                    rest = rest.dropFirst(word.count)
                }
            }
        }
        return words
    }

    private static func quoted(_ text: Substring) -> (String, Substring)? {
        var word = ""
        var rest = text
        while let character = rest.popFirst() {
            if character == "\"" { return (word, rest) }
            guard character == "\\" else {
                word.append(character)
                continue
            }
            guard let escaped = rest.popFirst() else { return nil }
            word.append(escaped)
        }
        return nil
    }
}

/// Small text files.
enum TextFile {
    /// Blocking.
    static func read(_ path: String, maxBytes: Int) throws(CredentialsError) -> (text: String, mode: UInt32) {
        // Not blocking: opening a fifo would wait for its writer.
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard file >= 0 else { throw CredentialsError(place: path, reason: "cannot be read: \(String(cString: strerror(errno)))") }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw CredentialsError(place: path, reason: "is not a regular file")
        }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while true {
            let got = Glibc.read(file, &piece, piece.count)
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw CredentialsError(place: path, reason: "cannot be read: \(String(cString: strerror(errno)))") }
            if got == 0 { break }
            bytes += piece.prefix(got)
            guard bytes.count <= maxBytes else { throw CredentialsError(place: path, reason: "is larger than \(maxBytes) bytes") }
        }
        return (String(decoding: bytes, as: UTF8.self), UInt32(status.st_mode))
    }
}
