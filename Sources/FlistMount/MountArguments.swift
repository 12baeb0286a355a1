/// The command line of mount.flist, as mount(8) calls its helpers: `SOURCE DIRECTORY [-sfnvrw] [-N namespace] [-t type] [-o options]`.
public struct MountArguments: Sendable, Equatable {
    /// A local file, a URL, or a name that the daemon knows.
    public var source: String
    public var directory: String
    public var options: MountOptions
    /// Stay in the foreground.
    public var foreground = false
    /// Everything but the mount (`-f`).
    public var isFake = false
    public var isVerbose = false
    public var wantsHelp = false
    /// A descriptor on which the program that started this one waits for the outcome.
    public var readiness: Int32?
    /// The connection and its state, which the process that started this one keeps: `--held 4,5,/whole/path/of/the/directory`.
    public var held: HeldConnection?

    public static let usage = """
        usage: mount.flist FLIST DIRECTORY [-o OPTION,…] [--foreground] [-fnsv]
        FLIST is a local file, an http(s) URL, or the name under which the daemon knows it.
        options: ro rw allow_other uid=N gid=N prefetch timeout=SECONDS api=SOCKET store=URL overlay upperdir=DIR workdir=DIR
                 hold passthrough nopassthrough nosuid nodev noexec, and those of fstab
        """

    /// - Parameter words: without the program's name.
    public init(_ words: [String]) throws(MountError) {
        var places: [String] = []
        var texts: [String] = []
        var rest = words[...]
        var flags = (foreground: false, fake: false, verbose: false, help: false)
        var readiness: Int32?
        var held: HeldConnection?
        var heldDirectory: String?
        func value(_ option: String) throws(MountError) -> String {
            guard let value = rest.popFirst() else { throw MountError(.usage, "\(option) needs a value") }
            return value
        }
        while let word = rest.popFirst() {
            switch word {
            case "--foreground": flags.foreground = true
            case "--help", "-h": flags.help = true
            case "--readiness-fd": readiness = Int32(try value(word))
            case "--held":
                let words = try value(word)
                let cut = words.firstIndex(of: "/") ?? words.endIndex
                held = try HeldConnection(words: words[..<cut])
                heldDirectory = String(words[cut...])
            case "-o": texts.append(try value(word))
            case "-t", "-N": _ = try value(word)
            case "--":
                places += rest
                rest = []
            default:
                guard word.hasPrefix("-"), word.count > 1 else {
                    places.append(word)
                    continue
                }
                if word.hasPrefix("-o") {
                    texts.append(String(word.dropFirst(2)))
                    continue
                }
                for letter in word.dropFirst() {
                    switch letter {
                    case "f": flags.fake = true
                    case "v": flags.verbose = true
                    case "r": texts.append("ro")
                    case "w": texts.append("rw")
                    case "n", "s": break
                    default: throw MountError(.usage, "unknown option \(word)")
                    }
                }
            }
        }
        if flags.help { places = ["", ""] }
        guard places.count == 2 else {
            throw MountError(.usage, places.count < 2 ? "an flist and a directory are needed" : "too many arguments")
        }
        (source, directory) = (places[0], heldDirectory ?? places[1])
        options = try MountOptions(texts)
        (foreground, isFake, isVerbose, wantsHelp) = (flags.foreground, flags.fake, flags.verbose, flags.help)
        (self.readiness, self.held) = (readiness, held)
    }
}
