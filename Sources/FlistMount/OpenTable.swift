/// How a file is open, and how often.
struct OpenState: Sendable, Equatable {
    /// The kernel's id of the whole file; `nil`: by way of the page cache.
    var backing: Int32?
    var count: Int
}

/// Which files are open, and how: cached and passthrough opens of one inode must not coexist, and a file that the kernel reads itself keeps
/// one backing id until it is released for the last time.
///
/// A value without I/O: whoever opens first decides, those who come meanwhile wait for the decision.
struct OpenTable<Waiter: Sendable>: Sendable {
    enum Step: Sendable, Equatable {
        /// The caller finds out whether there is a whole file, and says so with `decided`.
        case decide
        /// The waiter is answered when it is decided.
        case wait
        case cached
        case passthrough(Int32)
    }

    private enum State {
        case deciding([Waiter])
        case cached(opens: Int)
        case passthrough(Int32, opens: Int)
    }

    private var states: [UInt64: State] = [:]

    var count: Int { states.count }

    init() {}

    /// - Parameter opens: what another process had open on the same connection.
    init(_ opens: [UInt64: OpenState]) {
        states = opens.mapValues { open in
            open.backing.map { .passthrough($0, opens: open.count) } ?? .cached(opens: open.count)
        }
    }

    /// How `node` is open; `nil` when it is not, or not decided.
    func state(of node: UInt64) -> OpenState? {
        switch states[node] {
        case .cached(let opens)?: OpenState(backing: nil, count: opens)
        case .passthrough(let backing, let opens)?: OpenState(backing: backing, count: opens)
        case .deciding?, nil: nil
        }
    }

    mutating func open(_ node: UInt64, _ waiter: @autoclosure () -> Waiter) -> Step {
        switch states[node] {
        case nil:
            states[node] = .deciding([])
            return .decide
        case .deciding(let waiters)?:
            states[node] = .deciding(waiters + [waiter()])
            return .wait
        case .cached(let opens)?:
            states[node] = .cached(opens: opens + 1)
            return .cached
        case .passthrough(let backing, let opens)?:
            states[node] = .passthrough(backing, opens: opens + 1)
            return .passthrough(backing)
        }
    }

    /// - Parameter backing: the kernel's id of the whole file; `nil`: opens are cached ones.
    /// - Returns: who waited for this.
    mutating func decided(_ node: UInt64, backing: Int32?) -> [Waiter] {
        guard case .deciding(let waiters)? = states[node] else { return [] }
        let opens = waiters.count + 1
        states[node] = backing.map { .passthrough($0, opens: opens) } ?? .cached(opens: opens)
        return waiters
    }

    /// One open of `node` has ended.
    ///
    /// - Returns: the backing id that is to be closed.
    mutating func released(_ node: UInt64) -> Int32? {
        switch states[node] {
        case .cached(let opens)?:
            states[node] = opens > 1 ? .cached(opens: opens - 1) : nil
            return nil
        case .passthrough(let backing, let opens)?:
            guard opens <= 1 else {
                states[node] = .passthrough(backing, opens: opens - 1)
                return nil
            }
            states[node] = nil
            return backing
        case .deciding?, nil: return nil
        }
    }
}
