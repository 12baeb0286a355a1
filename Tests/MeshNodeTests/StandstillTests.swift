import Logging
import Testing

@testable import MeshNode

@Suite struct StandstillTests {
    @Test func aNodeThatStoodStillListensFirst() {
        let standstill = Standstill()
        for second in 0...10 { #expect(!standstill.isFresh(.seconds(second))) }
        #expect(standstill.isFresh(.seconds(20)))
        #expect(standstill.isFresh(.seconds(21)))
        #expect(!standstill.isFresh(.seconds(23)))
        #expect(standstill.count == 1)
    }

    @Test func aTimeBeforeTheLastOneChangesNothing() {
        let standstill = Standstill()
        #expect(!standstill.isFresh(.seconds(10)))
        #expect(!standstill.isFresh(.seconds(9)))
        #expect(!standstill.isFresh(.seconds(12)))
    }
}
