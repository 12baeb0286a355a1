import ChunkModel
import PeerProtocol
import Testing

private let ms: UInt64 = 1_000_000
private let aChunk = PeerRequest(.chunk(FrameTests.chunk, .ifHeld, flist: nil))

@Suite struct ClientConnectionMachineTests {
    func open(_ tokens: ClosedRange<UInt64>, deadline: UInt64 = 60_000 * ms) -> ClientConnectionMachine {
        var machine = ClientConnectionMachine(now: 0)
        for token in tokens { #expect(machine.submit(token: token, aChunk, deadline: deadline, now: 0).isEmpty) }
        machine.opened(now: 0)
        while machine.nextFrames(now: 0) != nil {}
        return machine
    }

    @Test func foregroundGoesOutBeforePrefetch() {
        var machine = ClientConnectionMachine(now: 0)
        _ = machine.submit(token: 1, PeerRequest(.chunk(FrameTests.chunk, .fetch, flist: nil), priority: .prefetch), deadline: .max, now: 0)
        _ = machine.submit(token: 2, aChunk, deadline: .max, now: 0)
        #expect(machine.nextFrames(now: 0) == nil)
        machine.opened(now: 0)
        guard case .request(_, _, .foreground, _) = machine.nextFrames(now: 0)?.first else { return #expect(Bool(false)) }
        guard case .request(_, _, .prefetch, _) = machine.nextFrames(now: 0)?.first else { return #expect(Bool(false)) }
    }

    @Test func onlySoManyAreUnderWay() {
        var machine = open(1...1000)
        #expect(machine.requestCount == 1000)
        #expect(machine.receive(.missing(id: 1), now: 1).count == 1)
        #expect(machine.nextFrames(now: 1) != nil)
        #expect(machine.nextFrames(now: 1) == nil)
    }

    @Test func tooManyAreTurnedAway() {
        var machine = ClientConnectionMachine(now: 0)
        let answers = (0...UInt64(ProtocolLimits.maxRequestsKept)).map { machine.submit(token: $0, aChunk, deadline: .max, now: 0) }
        #expect(answers.filter { !$0.isEmpty }.count == 1)
        #expect(machine.close(.closed).count == ProtocolLimits.maxRequestsKept)
    }

    @Test func heartbeatsKeepARequestAlive() {
        var machine = open(1...1)
        for beat in 1...20 as ClosedRange<UInt64> {
            #expect(machine.tick(now: beat * 500 * ms).isEmpty)
            #expect(machine.receive(.pending(id: 1), now: beat * 500 * ms) == [.pending(token: 1)])
        }
        #expect(machine.tick(now: 11_900 * ms).isEmpty)
        #expect(machine.tick(now: 12_000 * ms) == [.drop(.stalled)])
        #expect(machine.close(.stalled) == [.finish(token: 1, .failed(.stalled))])
    }

    @Test func aStandstillOfThisProcessIsNotThePeersSilence() {
        var machine = open(1...1)
        #expect(machine.tick(now: 50 * ms).isEmpty)
        #expect(machine.tick(now: 8_000 * ms).isEmpty)
        #expect(machine.tick(now: 9_900 * ms).isEmpty)
        #expect(machine.tick(now: 10_000 * ms) == [.drop(.stalled)])
    }

    @Test func onlyTheForgottenRequestStallsOnALivelyConnection() {
        var machine = open(1...2)
        for beat in 1...3 as ClosedRange<UInt64> { _ = machine.receive(.pending(id: 2), now: beat * 500 * ms) }
        #expect(machine.tick(now: 2000 * ms) == [.finish(token: 1, .failed(.stalled))])
        #expect(machine.nextFrames(now: 2000 * ms) == [.cancel(id: 1)])
        #expect(machine.receive(.missing(id: 1), now: 2000 * ms).isEmpty)
    }

    @Test func slowBulkOfOneRequestIsNoStallOfTheOthers() {
        var machine = open(1...2)
        #expect(machine.receive(.data(id: 1, length: 100), now: 0) == [.beginData(length: 100)])
        for second in 1...10 as ClosedRange<UInt64> {
            machine.dataProgress(now: second * 1000 * ms)
            #expect(machine.tick(now: second * 1000 * ms).isEmpty)
        }
        #expect(machine.dataFinished(now: 10_000 * ms) == [.deliverData(token: 1)])
        #expect(machine.tick(now: 11_900 * ms).isEmpty)
        #expect(machine.tick(now: 12_000 * ms) == [.drop(.stalled)])
    }

    @Test func dataThatStandsStillDropsTheConnection() {
        var machine = open(1...3)
        _ = machine.receive(.data(id: 2, length: 100), now: 0)
        machine.dataProgress(now: 1000 * ms)
        #expect(machine.tick(now: 4900 * ms).isEmpty)
        #expect(machine.tick(now: 5000 * ms) == [.drop(.stalled)])
        #expect(machine.close(.stalled).count == 3)
        #expect(machine.close(.closed).isEmpty)
    }

    @Test func deadlineAndCancelEndARequestOnceAndTellThePeer() {
        var machine = open(1...2, deadline: 300 * ms)
        #expect(machine.cancel(token: 1) == [.finish(token: 1, .failed(.cancelled))])
        #expect(machine.cancel(token: 1).isEmpty)
        #expect(machine.tick(now: 300 * ms) == [.finish(token: 2, .failed(.timedOut))])
        #expect([machine.nextFrames(now: 0), machine.nextFrames(now: 0)] == [[.cancel(id: 2)], [.cancel(id: 1)]])
        // The data of a request that was given up is read and thrown away.
        #expect(machine.receive(.data(id: 1, length: 5), now: 1) == [.beginData(length: 5)])
        #expect(machine.dataFinished(now: 1).isEmpty)
    }

    @Test func violationsDropTheConnection() {
        let piece = PeerRequest(.flistPiece(FrameTests.flist, offset: 0, length: 10))
        let frames: [[PeerFrame]] = [
            [.missing(id: 9)], [.missing(id: 0)], [.part(id: 1, [1])], [.cancel(id: 1)], [.message(id: 1, total: 1, first: [1])],
            [.data(id: 1, length: 11)], [.data(id: 1, length: 3), .pending(id: 1)],
            [.message(id: 2, total: 3, first: [1]), .pending(id: 1)],
            [.message(id: 2, total: 3, first: [1]), .part(id: 2, [1, 2, 3])], [.message(id: 2, total: 3, first: [])],
            [.data(id: 2, length: 0)],
        ]
        for sequence in frames {
            var machine = ClientConnectionMachine(now: 0)
            _ = machine.submit(token: 1, piece, deadline: .max, now: 0)
            _ = machine.submit(token: 2, PeerRequest(.message(kind: 1, payload: [])), deadline: .max, now: 0)
            machine.opened(now: 0)
            while machine.nextFrames(now: 0) != nil {}
            let last = sequence.map { machine.receive($0, now: 0) }.last
            guard case .drop(.protocolViolation) = last?.first else { #expect(Bool(false), "\(sequence)"); continue }
        }
    }

    @Test func anIdleConnectionIsClosed() {
        var machine = open(1...1)
        _ = machine.receive(.missing(id: 1), now: 1000 * ms)
        #expect(machine.tick(now: 30_000 * ms).isEmpty)
        #expect(machine.tick(now: 31_000 * ms) == [.drop(.closed)])
    }
}

@Suite struct ServerConnectionMachineTests {
    static func request(_ id: UInt32, _ priority: FetchPriority = .foreground, deadline: UInt32 = 60_000) -> PeerFrame {
        .request(id: id, .chunk(FrameTests.chunk, .ifHeld, flist: nil), priority: priority, deadline: deadline)
    }

    @Test func aForegroundAnswerOvertakesQueuedPrefetch() {
        var machine = ServerConnectionMachine(now: 0)
        for id in 1...3 as ClosedRange<UInt32> { _ = machine.receive(Self.request(id, id == 3 ? .foreground : .prefetch), now: 0) }
        for id in 1...3 as ClosedRange<UInt32> { #expect(machine.answer(id: id, .data(length: 5), now: 0) == true) }
        let order = (0..<3).map { _ in machine.nextOutput(now: 0) }
        #expect(order == [3, 1, 2].map { .data(.data(id: $0, length: 5), id: $0) })
        #expect(machine.nextOutput(now: 0) == nil && machine.requestCount == 0)
    }

    @Test func heartbeatsComeEveryHalfSecondUntilTheAnswerGoesOut() {
        var machine = ServerConnectionMachine(now: 0)
        _ = machine.receive(Self.request(1), now: 0)
        var beats = 0
        for step in 1...40 as ClosedRange<UInt64> {
            #expect(machine.tick(now: step * 50 * ms).isEmpty)
            if machine.nextOutput(now: step * 50 * ms) == .frames([.pending(id: 1)]) { beats += 1 }
        }
        #expect(beats == 4)
    }

    @Test func tooManyRequestsAreToldBusy() {
        var machine = ServerConnectionMachine(now: 0)
        let limit = UInt32(ProtocolLimits.maxWaitingRequests)
        for id in 1...limit { #expect(machine.receive(Self.request(id), now: 0).count == 1) }
        #expect(machine.receive(Self.request(limit + 1), now: 0).isEmpty)
        guard case .frames(let frames) = machine.nextOutput(now: 0), case .busy(limit + 1, _) = frames[0] else {
            return #expect(Bool(false))
        }
        #expect(machine.close().count == Int(limit))
    }

    @Test func cancelAndDeadlineTellTheHandlerAndAnswersThenGoNowhere() {
        var machine = ServerConnectionMachine(now: 0)
        _ = machine.receive(Self.request(1), now: 0)
        _ = machine.receive(Self.request(2, deadline: 100), now: 0)
        _ = machine.receive(Self.request(3), now: 0)
        #expect(machine.answer(id: 3, .data(length: 1), now: 0) == true)
        #expect(machine.receive(.cancel(id: 1), now: 0) == [.cancelled(id: 1)])
        #expect(machine.receive(.cancel(id: 1), now: 0).isEmpty)
        #expect(machine.receive(.cancel(id: 3), now: 0) == [.cancelled(id: 3)])
        #expect(machine.tick(now: 100 * ms) == [.cancelled(id: 2)])
        for id in 1...3 as ClosedRange<UInt32> { #expect(machine.answer(id: id, .missing, now: 0) == false) }
        #expect(machine.nextOutput(now: 100 * ms) == nil)
    }

    @Test func answersThatDoNotFitBecomeAnError() {
        var machine = ServerConnectionMachine(now: 0)
        _ = machine.receive(Self.request(1), now: 0)
        #expect(machine.answer(id: 1, .message([1]), now: 0) == false)
        _ = machine.receive(Self.request(2), now: 0)
        #expect(machine.answer(id: 2, .data(length: ProtocolLimits.maxDataBytes + 1), now: 0) == false)
        #expect(machine.nextOutput(now: 0) == .frames([.refused(id: 1, .internalError), .refused(id: 2, .internalError)]))
    }

    @Test(arguments: [0, 1, 60 * 1024 - 1, 60 * 1024, 60 * 1024 + 1, 4 << 20]) func aMessageTravelsWholeBothWays(size: Int) {
        var client = ClientConnectionMachine(now: 0)
        var server = ServerConnectionMachine(now: 0)
        let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let request = PeerRequest(.message(kind: 5, payload: payload))
        _ = client.submit(token: 7, request, deadline: .max, now: 0)
        client.opened(now: 0)
        let frames = client.nextFrames(now: 0) ?? []
        #expect(frames.allSatisfy { $0.encoded.count <= 64 * 1024 })
        #expect(frames.flatMap { server.receive($0, now: 0) } == [.handle(id: 1, request)])
        #expect(server.answer(id: 1, .message(payload), now: 0) == true)
        guard case .frames(let answer) = server.nextOutput(now: 0) else { return #expect(Bool(false)) }
        #expect(answer.flatMap { client.receive($0, now: 0) } == [.finish(token: 7, .message(payload))])
    }

    @Test func violationsDropTheConnection() {
        let sequences: [[PeerFrame]] = [
            [Self.request(0)], [Self.request(2), Self.request(2)], [Self.request(2), Self.request(1)], [.cancel(id: 1)], [.pending(id: 1)],
            [.part(id: 1, [])], [.proof([])],
            [.request(id: 1, .message(kind: 0, total: 2, first: [1]), priority: .foreground, deadline: 1), .cancel(id: 1)],
        ]
        for sequence in sequences {
            var machine = ServerConnectionMachine(now: 0)
            let last = sequence.map { machine.receive($0, now: 0) }.last
            guard case .drop = last?.first else { #expect(Bool(false), "\(sequence)"); continue }
        }
    }
}
