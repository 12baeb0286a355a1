import Glibc

/// Where a helper's few lines go: the terminal of one in the foreground, syslog of one in the background.
struct HelperLog: Sendable {
    private static let tag = "mount.flist"
    let toTerminal: Bool

    init(toTerminal: Bool) {
        self.toTerminal = toTerminal
        if !toTerminal { Self.tag.withCString { openlog(strdup($0), LOG_PID, Int32(LOG_DAEMON)) } }
    }

    func line(_ text: String) {
        if toTerminal {
            let bytes = Array("mount.flist: \(text)\n".utf8)
            _ = write(2, bytes, bytes.count)
        } else {
            text.withCString { text in withVaList([text]) { vsyslog(Int32(LOG_NOTICE), "%s", $0) } }
        }
    }
}

private let LOG_DAEMON = 3 << 3
