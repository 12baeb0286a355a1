/// One parser of foreign bytes under test: what it is called, what it is fed, and the bounds that it must keep.
///
/// `run` gets any bytes. It returns for all of them; a trap, a report of a sanitizer, or a bound that is not kept is a finding.
struct FuzzTarget: Sendable {
    let name: String
    /// Bytes of the longest input (libFuzzer's -max_len).
    var maxLength = 4_096
    /// Megabytes of resident memory under AddressSanitizer beyond which a run has failed (-rss_limit_mb); a single allocation may take a
    /// quarter of it (-malloc_limit_mb). An idle fuzzer takes about 60.
    var maxMegabytes = 512
    /// Seconds that one input may take, instrumented (-timeout).
    var maxSeconds = 5
    /// Inputs made by our own writers. More stand in Corpus/NAME.
    var seeds: @Sendable () -> [[UInt8]] = { [] }
    let run: @Sendable ([UInt8]) -> Void

    static func named(_ name: String) -> FuzzTarget? { all.first { $0.name == name } }
}

/// Ends the process as a trap does when a parser accepted what it must not.
func fuzzCheck(_ condition: Bool, _ what: @autoclosure () -> String) {
    if !condition { fatalError(what()) }
}

/// Cuts one input into numbers and byte strings; past its end, numbers are 0 and strings empty.
struct FuzzInput {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    var isAtEnd: Bool { rest.isEmpty }
    mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }
    /// Little-endian, of `count` bytes.
    mutating func number(_ count: Int) -> UInt64 { (0..<count).reduce(0) { $0 | UInt64(byte()) << UInt64(8 * $1) } }
    /// Two bytes of length, and as much of it as there is.
    mutating func piece() -> [UInt8] {
        let count = min(Int(number(2)), rest.count)
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }
    mutating func all() -> [UInt8] {
        defer { rest = [] }
        return Array(rest)
    }
}

/// Writes what `FuzzInput` cuts.
struct FuzzOutput {
    private(set) var bytes: [UInt8] = []

    mutating func byte(_ value: UInt8) { bytes.append(value) }
    mutating func number(_ value: UInt64, _ count: Int) {
        for i in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * i))) }
    }
    mutating func piece(_ piece: [UInt8]) {
        let piece = piece.prefix(65_535)
        number(UInt64(piece.count), 2)
        bytes += piece
    }
    mutating func all(_ more: [UInt8]) { bytes += more }
}
