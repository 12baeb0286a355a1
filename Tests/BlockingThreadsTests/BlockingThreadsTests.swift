import BlockingThreads
import Synchronization
import Testing

private final class Counter: Sendable {
    private let count = Mutex(0)
    var value: Int { count.withLock { $0 } }
    func add() { count.withLock { $0 += 1 } }
}

@Suite struct BlockingThreadsTests {
    @Test(arguments: [1, 4]) func everyJobRunsOnce(threads: Int) async {
        let threads = BlockingThreads(count: threads)
        let counter = Counter()
        await withTaskGroup(of: Int.self) { group in
            for i in 1...2000 {
                group.addTask {
                    await threads.run { counter.add() }
                    return i
                }
            }
            var results = 0
            for await i in group { results += i }
            #expect(results == 2000 * 2001 / 2)
        }
        #expect(counter.value == 2000)
    }

    @Test func oneThreadKeepsTheOrder() async {
        let threads = BlockingThreads(count: 1)
        let seen = Mutex<[Int]>([])
        for i in 0..<3000 { threads.start { seen.withLock { $0.append(i) } } }
        await threads.run {}
        #expect(seen.withLock { $0 } == Array(0..<3000))
    }

    @Test func errorsComeBack() async {
        struct Broken: Error {}
        let threads = BlockingThreads(count: 1)
        await #expect(throws: Broken.self) { try await threads.run { throw Broken() } }
    }

    @Test func whatIsQueuedIsDoneWhenTheOwnerGoes() async {
        await withCheckedContinuation { continuation in
            let threads = BlockingThreads(count: 1)
            for _ in 0..<100 { threads.start {} }
            threads.start { continuation.resume() }
        }
    }
}
