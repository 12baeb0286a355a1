internal import Glibc
public import MeshKeys

extension MeshKeyRing {
    /// Reads a key file: one base64 key of 32 bytes a line, `#` comments and empty lines allowed; the first key is used to send.
    ///
    /// - Throws: `ConfigurationError` with the line that is no key, or when others than the owner may read the file.
    public static func load(file path: String) throws -> MeshKeyRing {
        guard let file = fopen(path, "re") else {
            throw ConfigurationError(place: path, reason: "the mesh key cannot be read: \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var status = stat()
        if fstat(fileno(file), &status) == 0, status.st_mode & 0o007 != 0 {
            throw ConfigurationError(place: path, reason: "everybody on this machine may read the mesh key; run chmod o= on it")
        }
        var bytes = [UInt8](repeating: 0, count: maxFileBytes)
        let count = fread(&bytes, 1, bytes.count, file)
        let text = String(decoding: bytes.prefix(count), as: UTF8.self)
        var keys: [[UInt8]] = []
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = line.trimmed
            if line.isEmpty || line.hasPrefix("#") { continue }
            guard let key = Base64.decode(line), key.count == keyBytes else {
                throw ConfigurationError(
                    place: "\(path):\(number + 1)", reason: "not a base64 key of 32 bytes; make one with: chunkmesh key generate")
            }
            keys.append(key)
        }
        guard let ring = MeshKeyRing(keys: keys) else {
            throw ConfigurationError(
                place: path,
                reason: keys.isEmpty ? "holds no key; make one with: chunkmesh key generate" : "holds more than \(maxKeys) keys")
        }
        return ring
    }
}

extension MeshKeyRing {
    /// A key file that is larger is not read.
    static let maxFileBytes = 8192

    /// Writes these keys into the key file in place of those that stand there, in this order, so that after a crash either the old
    /// content or the new one stands there, with mode 0600. Comments and empty lines stay where they are. Blocking.
    ///
    /// - Throws: `ConfigurationError` that says what to do.
    public func save(file path: String) throws {
        func failure(_ what: String, _ code: Int32) -> ConfigurationError {
            ConfigurationError(
                place: path,
                reason: "\(what): \(String(cString: strerror(code))); the daemon must be able to write mesh.keyFile and its directory")
        }
        // What a link points to is replaced, not the link.
        guard let resolved = realpath(path, nil) else { throw failure("the mesh key cannot be found", errno) }
        let target = String(cString: resolved)
        free(resolved)
        guard let file = fopen(target, "re") else { throw failure("the mesh key cannot be read", errno) }
        var status = stat()
        let known = fstat(fileno(file), &status) == 0
        var old = [UInt8](repeating: 0, count: Self.maxFileBytes)
        let count = fread(&old, 1, old.count, file)
        fclose(file)
        let text = Array(merged(into: String(decoding: old.prefix(count), as: UTF8.self)).utf8)
        let temporary = target + ".tmp-\(getpid())"
        unlink(temporary)
        let descriptor = Glibc.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw failure("the new mesh key cannot be written beside it", errno) }
        // A daemon that runs as root leaves the file to whom it belonged.
        if known, geteuid() == 0 { _ = fchown(descriptor, status.st_uid, status.st_gid) }
        let isWritten = text.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) } == text.count && fsync(descriptor) == 0
        let code = errno
        close(descriptor)
        guard isWritten, rename(temporary, target) == 0 else {
            let code = isWritten ? errno : code
            unlink(temporary)
            throw failure("the new mesh key cannot be written", code)
        }
        let directory = Glibc.open(
            target.split(separator: "/").count > 1 ? String(target[..<target.lastIndex(of: "/")!]) : "/", O_RDONLY | O_CLOEXEC)
        if directory >= 0 {
            fsync(directory)
            close(directory)
        }
    }

    /// `text` with its key lines replaced by these keys; lines too few are added at the end, those left over go.
    func merged(into text: String) -> String {
        var keys = rawKeys.map { Base64.encode($0) }[...]
        var lines: [String] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let bare = line.trimmed
            if bare.isEmpty || bare.hasPrefix("#") {
                lines.append(String(line))
            } else if let key = keys.popFirst() {
                lines.append(key)
            }
        }
        while lines.last?.isEmpty == true { lines.removeLast() }
        return (lines + keys).joined(separator: "\n") + "\n"
    }
}

/// Base64 with the usual alphabet and padding (RFC 4648 §4).
public enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    public static func encode(_ bytes: [UInt8]) -> String {
        var out: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let word = group.reduce(0) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
            for i in 0..<4 { out.append(i <= group.count ? alphabet[Int(word >> UInt32(18 - 6 * i) & 63)] : UInt8(ascii: "=")) }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// `nil` for anything that `encode` would not have written.
    public static func decode(_ text: String) -> [UInt8]? {
        let characters = Array(text.utf8)
        guard characters.count.isMultiple(of: 4) else { return nil }
        var out: [UInt8] = []
        for start in stride(from: 0, to: characters.count, by: 4) {
            var word: UInt32 = 0
            var padding = 0
            for character in characters[start..<start + 4] {
                if character == UInt8(ascii: "=") {
                    padding += 1
                    word <<= 6
                } else if padding == 0, let value = alphabet.firstIndex(of: character) {
                    word = word << 6 | UInt32(value)
                } else {
                    return nil
                }
            }
            guard padding <= 2, padding == 0 || start + 4 == characters.count else { return nil }
            out += [UInt8(truncatingIfNeeded: word >> 16), UInt8(truncatingIfNeeded: word >> 8), UInt8(truncatingIfNeeded: word)].dropLast(
                padding)
        }
        return encode(out) == text ? out : nil
    }
}
