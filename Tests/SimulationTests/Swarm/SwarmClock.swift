/// Virtual time: what is to happen, by time and then by the order in which it was planned.
struct SwarmClock {
    private struct Event {
        let time: Duration
        let number: Int
        let action: () -> Void
        static func < (a: Event, b: Event) -> Bool { a.time != b.time ? a.time < b.time : a.number < b.number }
    }

    private(set) var now: Duration = .zero
    private var heap: [Event] = []
    private var number = 0

    mutating func schedule(at time: Duration, _ action: @escaping () -> Void) {
        number += 1
        heap.append(Event(time: max(time, now), number: number, action: action))
        var child = heap.count - 1
        while child > 0, heap[child] < heap[(child - 1) / 2] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// Moves the clock to the next event and returns what is to be done.
    mutating func next() -> (() -> Void)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child] < heap[least] { least = child }
                if least == parent { break }
                heap.swapAt(parent, least)
                parent = least
            }
        }
        now = first.time
        return first.action
    }
}

/// SplitMix64: the same numbers for the same seed, everywhere.
struct SwarmRandom: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        return Self.mix(state)
    }
    static func mix(_ value: UInt64) -> UInt64 {
        var z = value
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
