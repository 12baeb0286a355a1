internal import Glibc

struct BenchError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Words and `--name value` pairs of the command line, and names that stand alone.
struct BenchArguments {
    private static let flags: Set = ["--discard", "--seal"]
    private var words: [String] = []
    private var options: [String: String] = [:]

    init(_ raw: [String]) {
        var at = 0
        while at < raw.count {
            if Self.flags.contains(raw[at]) {
                options[raw[at]] = ""
            } else if raw[at].hasPrefix("--"), at + 1 < raw.count {
                options[raw[at]] = raw[at + 1]
                at += 1
            } else {
                words.append(raw[at])
            }
            at += 1
        }
    }

    var command: String { words.first ?? "" }
    func has(_ name: String) -> Bool { options[name] != nil }
    func option(_ name: String, _ fallback: Int) -> Int { options[name].flatMap(Int.init) ?? fallback }

    func word(_ index: Int) throws -> String {
        guard index < words.count else { throw BenchError("\(command) needs more arguments") }
        return words[index]
    }
    func number(_ index: Int) throws -> Int {
        guard let number = Int(try word(index)) else { throw BenchError("\(try word(index)) is no number") }
        return number
    }
}
