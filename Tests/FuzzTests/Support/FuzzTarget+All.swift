extension FuzzTarget {
    /// Every target; scripts/fuzz and the tests take them from here.
    static let all: [FuzzTarget] = [
        flist, snappyBlock, storedBlock, gossipDatagrams, gossipSeal, gossipMachine, peerFrame, peerHandshake, peerStream, peerMachines,
        apiRequest, hubRequest, upstreamURL, configuration, meshKeys, controlAnswers,
    ]
}
