internal import Flist

/// What stands behind `-o`.
public struct MountOptions: Sendable, Equatable {
    /// Where writes go: an overlay over the mount.
    public struct Overlay: Sendable, Equatable {
        /// `nil`: a directory of this program's own.
        public var upper: String?
        public var work: String?
        public init(upper: String? = nil, work: String? = nil) { (self.upper, self.work) = (upper, work) }
    }

    /// Seconds that a reader waits for content.
    public static let defaultTimeout = 60
    static let maxTimeout = 86_400

    public var allowOther = false
    public var uid: UInt32?
    public var gid: UInt32?
    public var prefetch = false
    public var timeout = Self.defaultTimeout
    /// The daemon's API: `unix:/path` or `/path`.
    public var api: String?
    /// Stores that are read without a daemon.
    public var stores: [String] = []
    public var overlay: Overlay?
    /// Whether `rw` was said; mount(8) says it of itself to everything that is not `ro`.
    public var isWritable = false
    /// Whole files are handed to the kernel where it takes them.
    public var passthrough = true
    /// Another process keeps the connection to the kernel, and starts a new helper when this one is killed.
    public var hold = false
    public var noSetID = false
    public var noDevices = false
    public var noExec = false

    public init() {}

    /// - Parameter texts: one for each `-o`; commas separate, `\,` is one of a value.
    /// - Throws: `MountError.Code.usage` for what is not known here.
    public init(_ texts: [String]) throws(MountError) {
        var upper: String?
        var work: String?
        var wantsOverlay = false
        for option in texts.flatMap(Self.split) where !option.isEmpty {
            let cut = option.firstIndex(of: "=")
            let name = String(option[..<(cut ?? option.endIndex)])
            let value = cut.map { String(option[option.index(after: $0)...]) }
            switch (name, value) {
            case ("ro", nil): isWritable = false
            case ("rw", nil): isWritable = true
            case ("overlay", nil): wantsOverlay = true
            case ("allow_other", nil): allowOther = true
            case ("prefetch", nil): prefetch = true
            case ("hold", nil): hold = true
            case ("nohold", nil): hold = false
            case ("passthrough", nil): passthrough = true
            case ("nopassthrough", nil): passthrough = false
            case ("suid", nil): noSetID = false
            case ("nosuid", nil): noSetID = true
            case ("dev", nil): noDevices = false
            case ("nodev", nil): noDevices = true
            case ("exec", nil): noExec = false
            case ("noexec", nil): noExec = true
            case ("uid", let value?): uid = try Self.number(name, value)
            case ("gid", let value?): gid = try Self.number(name, value)
            case ("timeout", let value?):
                guard let seconds = Int(value), (1...Self.maxTimeout).contains(seconds) else {
                    throw MountError(.usage, "timeout= takes 1 to \(Self.maxTimeout) seconds, not \(Self.shown(value))")
                }
                timeout = seconds
            case ("api", let value?) where !value.isEmpty: api = value
            case ("store", let value?) where !value.isEmpty: stores.append(value)
            case ("upperdir", let value?) where !value.isEmpty: upper = value
            case ("workdir", let value?) where !value.isEmpty: work = value
            default:
                guard Self.isForOthers(name, value) else { throw MountError(.usage, "unknown mount option \(Self.shown(option))") }
            }
        }
        if (upper == nil) != (work == nil) {
            throw MountError(.usage, "upperdir= and workdir= belong together: two directories of one file system")
        }
        if upper != nil || wantsOverlay { overlay = Overlay(upper: upper, work: work) }
    }

    /// What mount(8), fstab and systemd mean for themselves, and what makes no difference to what never changes.
    private static func isForOthers(_ name: String, _ value: String?) -> Bool {
        if name.hasPrefix("x-") || name.hasPrefix("X-") || name.hasPrefix("comment") { return true }
        switch name {
        case "defaults", "auto", "noauto", "user", "nouser", "users", "group", "owner", "_netdev", "nofail", "atime", "noatime", "diratime",
            "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "async", "sync", "dirsync",
            "silent", "loud", "mand", "nomand", "iversion", "noiversion":
            return name == "user" || value == nil
        case "helper", "uhelper": return value != nil
        default: return false
        }
    }

    private static func number(_ name: String, _ value: String) throws(MountError) -> UInt32 {
        guard let number = UInt32(value), number != .max else {
            throw MountError(.usage, "\(name)= takes a number below 4294967295, not \(shown(value))")
        }
        return number
    }

    private static func shown(_ text: String) -> String { FlistPath.quoted(Array(text.utf8)) }

    static func split(_ text: String) -> [String] {
        var parts: [[UInt8]] = [[]]
        var isEscaped = false
        for byte in text.utf8 {
            if isEscaped {
                if byte != UInt8(ascii: ",") { parts[parts.count - 1].append(UInt8(ascii: "\\")) }
                parts[parts.count - 1].append(byte)
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: ",") {
                parts.append([])
            } else {
                parts[parts.count - 1].append(byte)
            }
        }
        if isEscaped { parts[parts.count - 1].append(UInt8(ascii: "\\")) }
        return parts.map { String(decoding: $0, as: UTF8.self) }
    }
}
