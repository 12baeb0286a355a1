import ChunkModel
import Synchronization
import Testing

@testable import UpstreamStores

/// A value that tasks share.
private final class Shared<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>
    init(_ value: Value) { mutex = Mutex(value) }
    func withLock<R: Sendable>(_ body: @Sendable (inout Value) -> R) -> R { mutex.withLock { body(&$0) } }
}

@Suite struct UpstreamGateTests {
    @Test func theLimitIsKeptAndTheUrgentGoFirst() async throws {
        let gate = UpstreamGate(limit: 1)
        try await gate.enter(.prefetch)
        let order = Shared<[FetchPriority]>([])
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (waiting, priority) in [FetchPriority.prefetch, .readAhead, .foreground, .prefetch, .foreground].enumerated() {
                group.addTask {
                    try await gate.enter(priority)
                    order.withLock { $0.append(priority) }
                    gate.leave()
                }
                #expect(await eventually { gate.waiting == waiting + 1 })
            }
            gate.leave()
            try await group.waitForAll()
        }
        #expect(order.withLock { $0 } == [.foreground, .foreground, .readAhead, .prefetch, .prefetch])
        #expect(gate.inUse == 0 && gate.waiting == 0)
    }

    @Test func aCancelledWaiterLeavesTheLine() async throws {
        let gate = UpstreamGate(limit: 1)
        try await gate.enter(.foreground)
        let waiter = Task { try await gate.enter(.foreground) }
        let second = Task { try await gate.enter(.prefetch) }
        #expect(await eventually { gate.waiting == 2 })
        waiter.cancel()
        await #expect(throws: UpstreamGateError.cancelled) { try await waiter.value }
        #expect(gate.waiting == 1)
        gate.leave()
        try await second.value
        #expect(gate.inUse == 1)
        let early = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await gate.enter(.foreground)
        }
        await #expect(throws: UpstreamGateError.cancelled) { try await early.value }
        #expect(gate.inUse == 1 && gate.waiting == 0)
    }

    @Test func theLimitChangesAtRunTime() async throws {
        let gate = UpstreamGate(limit: 0)
        let tasks = (0..<4).map { _ in Task { try await gate.enter(.prefetch) } }
        #expect(await eventually { gate.waiting == 4 })
        gate.setLimit(3)
        #expect(await eventually { gate.inUse == 3 && gate.waiting == 1 })
        gate.setLimit(1)
        gate.leave()
        gate.leave()
        #expect(gate.inUse == 1 && gate.waiting == 1)
        gate.leave()
        for task in tasks { try await task.value }
        #expect(gate.inUse == 1)
    }

    @Test func manyComeAndGo() async throws {
        let gate = UpstreamGate(limit: 3)
        let most = Shared((now: 0, most: 0))
        await withTaskGroup(of: Void.self) { group in
            for i in 0..<2_000 {
                group.addTask {
                    if i % 7 == 0 { withUnsafeCurrentTask { $0?.cancel() } }
                    guard (try? await gate.enter(FetchPriority(rawValue: UInt8(i % 3))!)) != nil else { return }
                    most.withLock { ($0.now, $0.most) = ($0.now + 1, max($0.most, $0.now + 1)) }
                    await Task.yield()
                    most.withLock { $0.now -= 1 }
                    gate.leave()
                }
            }
        }
        #expect(most.withLock { $0.most } <= 3)
        #expect(gate.inUse == 0 && gate.waiting == 0)
    }
}
