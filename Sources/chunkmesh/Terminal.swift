import FoundationEssentials
import Glibc

/// What is printed for people, and for scripts.
enum Terminal {
    static func out(_ text: String) { write(1, Array((text + "\n").utf8)) }
    static func error(_ text: String) { write(2, Array((text + "\n").utf8)) }

    /// One JSON document on stdout.
    static func json(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        write(1, Array(try encoder.encode(value)) + [UInt8(ascii: "\n")])
    }

    /// All of the bytes; `false` when the reader has gone.
    @discardableResult
    static func write(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { write(descriptor, $0) } }

    @discardableResult
    static func write(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Bool {
        var rest = bytes
        while let base = rest.baseAddress, !rest.isEmpty {
            let count = Glibc.write(descriptor, base, rest.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
        return true
    }

    /// Columns, the first left and numbers right; control characters were quoted by whoever made the cells.
    static func table(_ head: [String], _ rows: [[String]], rightAligned: Set<Int> = []) {
        let widths = head.indices.map { column in ([head] + rows).map { $0[column].count }.max() ?? 0 }
        for row in [head] + rows {
            let cells = row.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                return rightAligned.contains(column) ? padding + cell : (column == row.count - 1 ? cell : cell + padding)
            }
            out(cells.joined(separator: "  "))
        }
    }

    static func size(_ bytes: UInt64) -> String {
        var value = Double(bytes)
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if value < 1024 || unit == "GiB" { return unit == "B" ? "\(bytes) B" : "\((value * 10).rounded() / 10) \(unit)" }
            value /= 1024
        }
        return "\(bytes) B"
    }

    /// Names from an flist may hold anything: control characters are shown as escapes.
    static func quoted(_ text: String) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0..<32, 127..<160: out += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
            case 0x5c: out += "\\\\"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}

/// A bar on a terminal; plain lines, seldom, elsewhere. On stderr, so that stdout stays for results.
struct ProgressBar {
    /// Between two plain lines.
    static let plainSeconds = 5.0
    /// Between two drawings on a terminal.
    static let drawSeconds = 0.1
    static let cells = 30

    /// Whether a total is worth finding out.
    static var isShown: Bool { isatty(2) == 1 }

    private let isTerminal = ProgressBar.isShown
    private var last = -1e9
    private var hasDrawn = false
    private let label: String
    private let start = ProgressBar.now

    init(_ label: String) { self.label = label }

    private static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    mutating func show(done: UInt64, of total: UInt64, note: String) {
        let now = Self.now
        guard now - last >= (isTerminal ? Self.drawSeconds : Self.plainSeconds) else { return }
        // Quick things need no plain line.
        if !isTerminal, now - start < Self.plainSeconds { return }
        last = now
        draw(done: done, of: total, note: note)
    }

    private mutating func draw(done: UInt64, of total: UInt64, note: String) {
        let part = total == 0 ? 1 : min(1, Double(done) / Double(total))
        let percent = Int(part * 100)
        // What will come is not always known beforehand.
        let isOpen = total == 0 && done > 0
        if isOpen {
            Terminal.write(2, Array((isTerminal ? "\r\u{1b}[K\(label) \(note)" : "\(label): \(note)\n").utf8))
            hasDrawn = true
            return
        }
        if isTerminal {
            let full = Int(part * Double(Self.cells))
            let bar = String(repeating: "#", count: full) + String(repeating: ".", count: Self.cells - full)
            Terminal.write(2, Array("\r\u{1b}[K\(label) [\(bar)] \(percent) % \(note)".utf8))
            hasDrawn = true
        } else {
            Terminal.error("\(label): \(percent) % \(note)")
        }
    }

    /// The last state stays on the screen.
    mutating func end(done: UInt64, of total: UInt64, note: String) {
        guard isTerminal else { return }
        draw(done: done, of: total, note: note)
        if hasDrawn { Terminal.error("") }
    }
}
