import Foundation
import Testing

/// The short run: every target over its corpus and over a fixed number of changed inputs, in the ordinary build. The long one is
/// scripts/fuzz, where libFuzzer looks for new ways through the code.
@Suite(.serialized) struct CorpusTests {
    /// Seconds for each target; on a slow machine the last of the changed inputs are left out.
    static let seconds = 2.0
    /// Changed inputs for each target.
    static let inputs = 4_000
    /// The last input, for whoever must find out what ended the process.
    static let lastInput = NSTemporaryDirectory() + "chunkmesh-fuzz-last-input"

    @Test(arguments: FuzzTarget.all.map(\.name)) func everyInputIsSurvived(name: String) throws {
        let target = try #require(FuzzTarget.named(name))
        let files = ScratchFile.list("\(ScratchFile.package)/Tests/FuzzTests/Corpus/\(name)").compactMap { ScratchFile.read($0) }
        let corpus = (files + target.seeds()).filter { $0.count <= target.maxLength }
        #expect(!corpus.isEmpty, "no seeds")
        let last = try LastInput(path: "\(Self.lastInput)-\(name)", capacity: target.maxLength)
        defer { last.remove() }
        let start = ContinuousClock.now
        func run(_ input: [UInt8]) {
            last.note(input)
            let began = ContinuousClock.now
            target.run(input)
            let took = ContinuousClock.now - began
            #expect(took < .seconds(3 * target.maxSeconds), "\(took) for the input in \(last.keep())")
        }
        for input in corpus { run(input) }
        var mutator = Mutator(seed: 1)
        for _ in 0..<Self.inputs where ContinuousClock.now - start < .seconds(Self.seconds) {
            run(mutator.input(from: corpus, upTo: target.maxLength))
        }
    }
}

/// Keeps the input under way in a mapped file, which outlives a trap.
private final class LastInput {
    private let path: String
    private let memory: UnsafeMutableRawPointer
    private let capacity: Int
    private var isKept = false

    init(path: String, capacity: Int) throws {
        (self.path, self.capacity) = (path, max(capacity, 1))
        let file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        try #require(file >= 0)
        defer { close(file) }
        try #require(ftruncate(file, self.capacity + 8) == 0)
        memory = try #require(mmap(nil, self.capacity + 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0))
    }

    deinit { munmap(memory, capacity + 8) }

    /// The length in eight bytes, then the input.
    func note(_ input: [UInt8]) {
        memory.storeBytes(of: UInt64(input.count).littleEndian, as: UInt64.self)
        UnsafeMutableRawBufferPointer(start: memory + 8, count: capacity).copyBytes(from: input.prefix(capacity))
    }

    func keep() -> String {
        isKept = true
        return path
    }

    func remove() { if !isKept { unlink(path) } }
}
