extension FuzzTarget {
    /// Every target; scripts/fuzz and the tests take them from here.
    static let all: [FuzzTarget] = [
        flist, legacyFlist, legacyRecord, archive, router, minisign, snappyBlock, storedBlock, gossipDatagrams, gossipSeal, gossipMachine,
        gossipSites,
        peerFrame, peerHandshake, peerStream, peerMachines,
        apiRequest, hubRequest, upstreamURL, s3Text, credentials, respReplies, imageDocument, imageLayer, configuration, meshKeys,
        controlAnswers, carriedFile, davBody, fuseRequest, readFrames, readProfile,
    ]
}
