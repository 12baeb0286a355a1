import ControlClient
import Glibc
import Minisign

/// The password of a key to sign with.
enum Password {
    static let variable = "CHUNKMESH_SIGNING_PASSWORD"
    static let help =
        "The password is asked for on the terminal; it is taken from \(variable) where that is set, or from the first line of stdin where stdin "
        + "is no terminal."

    /// For a key that is there.
    static func known() throws -> [UInt8] {
        if let password = fromEnvironment() { return try checked(password) }
        return try checked(isatty(0) == 1 ? try ask("Password: ") : try line())
    }

    /// For a new key: typed twice, never empty.
    static func new() throws -> [UInt8] {
        let password: [UInt8]
        if let given = fromEnvironment() {
            password = given
        } else if isatty(0) == 1 {
            password = try ask("Password for the new key: ")
            guard try ask("Once more: ") == password else { throw ControlError.broken("the two passwords differ; no key was made") }
        } else {
            password = try line()
        }
        guard !password.isEmpty else { throw ControlError.broken("the password is empty; --no-password makes a key without one") }
        return try checked(password)
    }

    private static func checked(_ password: [UInt8]) throws -> [UInt8] {
        guard password.count <= MinisignSecretKeyFile.maxPasswordBytes, !password.contains(0) else {
            throw ControlError.broken("a password has at most \(MinisignSecretKeyFile.maxPasswordBytes) bytes, none of them zero")
        }
        return password
    }

    private static func fromEnvironment() -> [UInt8]? { getenv(variable).map { Array(String(cString: $0).utf8) } }

    /// The first line of stdin.
    private static func line() throws -> [UInt8] {
        var out: [UInt8] = []
        while let byte = try next(), byte != UInt8(ascii: "\n") {
            guard out.count <= MinisignSecretKeyFile.maxPasswordBytes else { break }
            out.append(byte)
        }
        if out.last == UInt8(ascii: "\r") { out.removeLast() }
        return out
    }

    /// Without echo. Keys are read one by one, Ctrl-C too, so that the terminal is left as it was found.
    private static func ask(_ prompt: String) throws -> [UInt8] {
        var before = termios()
        guard tcgetattr(0, &before) == 0 else { throw ControlError.broken("the terminal cannot be asked for a password") }
        var silent = before
        silent.c_lflag &= ~tcflag_t(ECHO | ICANON | ISIG)
        tcsetattr(0, TCSAFLUSH, &silent)
        defer {
            tcsetattr(0, TCSAFLUSH, &before)
            Terminal.error("")
        }
        Terminal.write(2, Array(prompt.utf8))
        var out: [UInt8] = []
        while let byte = try next() {
            switch byte {
            case UInt8(ascii: "\n"), UInt8(ascii: "\r"): return out
            case 0x03: throw Interrupted()
            case 0x04 where out.isEmpty: throw ControlError.broken("no password was given")
            // The whole of a character that has several bytes.
            case 0x08, 0x7f: while let last = out.popLast(), last & 0xc0 == 0x80 {}
            // Line cleared.
            case 0x15: out = []
            default: if out.count <= MinisignSecretKeyFile.maxPasswordBytes { out.append(byte) }
            }
        }
        throw ControlError.broken("no password was given")
    }

    /// `nil` at the end of stdin.
    private static func next() throws -> UInt8? {
        var byte: UInt8 = 0
        while true {
            let count = read(0, &byte, 1)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw ControlError.broken("the password cannot be read: \(String(cString: strerror(errno)))") }
            return count == 0 ? nil : byte
        }
    }
}
