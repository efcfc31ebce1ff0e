/** Every limit that isn't a setting, with the reason for its size. */
export const limits = {
  /** A management body is a form or a small document, never a file. */
  apiBodyBytes: 1024 * 1024,
  /** Far more than any body of ours has, and far less than the stack that writes it as JSON again. */
  bodyDepth: 100,
  /** A priced request is buffered before it is forwarded. */
  gatewayRequestBytes: 1024 * 1024,
  /** A priced response is stored before it is charged: what fits in a row of 4 MiB can be fetched again, more is streamed. */
  storedResponseBytes: 4 * 1024 * 1024,
  /**
   * Of paid answers, at once, unless the settings say otherwise: 64 of the largest that wait for their settlement. Beyond it calls are
   * refused before they begin, and what has begun flows through and isn't kept.
   */
  answerMemoryMib: 256,
  /** Answers leave within a settlement's time; a client that asks this often costs nothing. */
  busyRetrySeconds: 1,
  /** A client that doesn't read at all for so long gives its answer's memory back. */
  unreadAnswerSeconds: 20,
  /** Upstreams commonly stop at 8 KiB, and Node refuses a whole request head above 16 KiB. */
  gatewayRequestTargetBytes: 8 * 1024,
  /** Open connections are file descriptors: 512 upstreams with a few each stay below a usual limit of some thousands. */
  upstreamOrigins: 512,
  /** A slow upstream holds no more calls than these, so that the others' calls still find room. */
  upstreamCallsPerOrigin: 256,
  /** A connection costs an upstream memory too; most servers close one that is idle for a minute by themselves. */
  upstreamOriginIdleSeconds: 60,
  /** A base64 payment of the exact scheme has about 1.5 KiB; extensions may add some. */
  paymentHeaderBytes: 16 * 1024,
  /**
   * Of the description in the 402's header: clients stop at 8 or 16 KiB of headers, and base64 adds a third. The body of version 1 and
   * the catalogue have it whole.
   */
  offeredDescriptionBytes: 1024,
  /** Of the called path in the 402's header: beyond that the endpoint's own stands for it. */
  offeredPathBytes: 1024,
  /** Long enough for a slow model's answer; the 402's `maxTimeoutSeconds` leaves room for it. */
  upstreamTimeoutSeconds: 30,
  /** A paid stream that is cut can't be had again, and a model may think for a minute between two words. */
  streamIdleSeconds: 120,
  /** Time that a settlement may need after the upstream has answered. */
  settlementMarginSeconds: 30,
  /** How long a payment's `validAfter` must be past: the chain's last block is so old at most, and clocks differ. Stock clients sign ten minutes. */
  validAfterMarginSeconds: 5,
  /** Payments in one transaction: even where each payee is new, 200 stay below the 16.7 million gas of EIP-7825. */
  batchItems: 200,
  /** One commit's claims and answers: beyond some hundreds a larger batch adds latency, and hardly any rate. */
  paymentBatch: 256,
  /** Of the answers in it: sealed and written out for PostgreSQL they take six times as much, and no string has more than 512 MiB. */
  paymentBatchBytes: 16 * 1024 * 1024,
  /** Of an answer that is stored with its settlement's transaction: as many of these as that has items stay within the same. */
  unstoredResponseBytes: 64 * 1024,
  /** A commit costs a millisecond or two of two processes; a call of a busy gateway waits for several things that take longer. */
  paymentBatchMs: 5,
  /** A call paid with credits waits for two commits and its upstream, and for nothing else. */
  creditBatchMs: 2,
  /**
   * What may be owed, in atomic units of USDC, by payments that were answered before they are settled: on each network, to one server,
   * and by one payer. Beyond it a call waits for its settlement.
   */
  owedAtomic: { inAll: 1_000_000_000n, byServer: 100_000_000n, byPayer: 1_000_000n },
  /** What a batch may use: the transaction itself, and for each item what a payee who never held the token takes. */
  batchGasBase: 60_000n,
  batchGasPerItem: 75_000n,
  /** What one item may use at most, and the batch contract of ours keeps it to: `CALL_GAS` of Batch.sol, and what EIP-150 keeps back of it. */
  batchGasOfOne: 160_000n,
  /** A relayer that can't pay for this many full batches at present fees is called low: time to send it some. */
  relayerReserveBatches: 10n,
  /** Whose settlement failed after the work was done may not begin another for an hour. */
  payerSuspensionSeconds: 60 * 60,
  /** What the 402 asks the payer to sign for: one attempt, its settlement, and a retry. */
  paymentTimeoutSeconds: 120,
  /**
   * How far ahead a payment may run out. Its stored answer is kept for a day after that, and its use is searched for as far back as
   * this and the life of a refund say. The 402 asks for two minutes; the rest is for clocks that are wrong.
   */
  paymentValiditySecondsMax: 60 * 60,
  /**
   * A payment that the facilitator takes must be good for this long: some blocks. Its seller's terms say how long the work may take,
   * so that more would refuse payments that are honestly signed for a minute.
   */
  facilitatorMarginSeconds: 6,
  /** What an environment may have the facilitator settle a day, unless the settings say otherwise: the operator pays the gas. */
  facilitatorSettlementsPerDay: 10_000,
  /** A stored response can be fetched again with the same payment for a day. */
  storedResponseSeconds: 24 * 60 * 60,
  /** Who has paid upfront and doesn't come back for the answer gets the money back after this long. */
  owedDeliverySeconds: 10 * 60,
  /** A client that leaves before its stream begins may come for it again; one that always leaves has its seller work for nothing. */
  streamRunsMax: 3,
  /** A refund is our own wallet's transfer: it may wait for as long as the chain may be away. */
  refundValiditySeconds: 24 * 60 * 60,
  /** Without the secret of the terms, a retry from the same place is honest only for a short while. */
  retryWithoutSecretSeconds: 5 * 60,
  /** A client has two secrets while one takes the other's place; a third would be one that nobody looks after. */
  agentSecretsMax: 2,
  /** A key for each place where an agent runs, and one to replace each. */
  agentKeysMax: 8,
  /** How long a rotated secret may still work: a week, for what is deployed by hand. */
  rotationGraceSecondsMax: 7 * 24 * 60 * 60,
  /** An agent may be made to end within ten years; whoever wants longer lets it have no end. */
  agentLifeSecondsMax: 10 * 365 * 24 * 60 * 60,
  /** A token with all of them goes into a header, of which servers commonly take 8 KiB: base64 makes three characters four. */
  agentScopeCharacters: 4096,
  /** What an owner notes down about an agent comes with it in every list: labels, no documents. */
  agentMetadataBytes: 10 * 1024,
  /** A self-registered agent that nobody linked, and that did nothing for a month, is noise. */
  idleAgentSeconds: 30 * 24 * 60 * 60,
  /** Deleted in one transaction: the locks of some hundreds are held for milliseconds. */
  idleAgentBatch: 500,
  /** A secret in a stored answer is shown again to whoever lost the first one, for as long as a retry may take. */
  secretShownSeconds: 10 * 60,
  /** Wrong credentials that cost no waiting: a person mistypes, a machine with an old secret retries, an office shares an address. */
  freeFailuresOfPair: 5,
  freeFailuresOfAddress: 20,
  freeFailuresOfClient: 20,
  /** Long enough to make guessing pointless, short enough for whoever shares an address with a guesser. */
  guessWaitSecondsMax: 60,
  /** What an address that waits may still have looked up in a second, for those who share it with a guesser: a hundredth of what a core can. */
  looksWhileWaiting: 50,
  guessMemorySeconds: 15 * 60,
  /** Of a limit that holds for all processes together, what each counts by itself before it writes it down: one statement in so many calls. */
  unwrittenShare: 0.1,
  /** Refusals of an agent in that time that have an audit event each: enough to see who does what, and nothing to fill a log with. */
  refusalsWithEvent: 20,
  /** Keys of some hundred bytes: a few megabytes, whoever sends what. */
  guessMemoryEntries: 10_000,
  /** A self-registered agent's token is short-lived: revocation needs no list then. */
  agentTokenSeconds: 15 * 60,
  /** Grants in a minute of an agent that anybody may have registered: one is good for an hour, and kept for a month. */
  homelessGrantsPerMinute: 120,
  /** Rotations in an hour of an agent that anybody may have registered: each is a row of its history. */
  homelessRotationsPerHour: 20,
  /**
   * How long that history has a secret which ended: a quarter, for whoever asks what was good when. Longer than a refresh family lives, whose end may
   * follow from the secret's. That of an agent with a home is kept as long as the agent.
   */
  homelessHistorySeconds: 90 * 24 * 60 * 60,
  /** News that nobody has taken: whoever was away for a week looks at what is true instead. */
  newsSeconds: 7 * 24 * 60 * 60,
  /** Rows that are forgotten in one statement: their locks are held for milliseconds. */
  sweepBatch: 5_000,
  /** An agent's counts by day: a year, and a month to compare it with. */
  usageDaysKept: 400,
  /** A token of `/oauth/token`: long enough for a run of an agent, short enough to be waited out by those who can't ask us. */
  accessTokenSeconds: 60 * 60,
  /** One grant's refresh tokens: after a month, the client shows its credential again. */
  refreshFamilySeconds: 30 * 24 * 60 * 60,
  /** An answer that got lost is given again to the same client for this long; a later use of a spent token is a theft. */
  refreshRetrySeconds: 30,
  /** A proof of possession is made for one request: what is older was kept for another. */
  dpopWindowSeconds: 60,
  /** A nonce of ours is good for as long as a client may wait between two requests of a session. */
  dpopNonceSeconds: 5 * 60,
  /** A client's assertion of itself is made for one request; stock clients give it one to five minutes. */
  assertionSecondsMax: 10 * 60,
  /** Clocks of machines that we don't keep may differ by this much (RFC 8725 leaves it to us). */
  clockSkewSeconds: 30,
  /** A machine's clock that differs more from the database's is told of at the start: clocks that are kept are within a fraction of a second. */
  clockDifferenceSeconds: 5,
  /** An assertion or a proof with an RSA key has less than 2 KiB. */
  foreignJwsCharacters: 8 * 1024,
  /** One commit's tokens: a larger batch adds latency, and hardly any rate. */
  tokenBatch: 256,
  /** Under load, commits of tokens begin this long after one another: each brings more of them, for a fraction of the database's work. */
  tokenBatchMs: 3,
  /** Clients that a process remembers: some kilobytes each. */
  clientsRemembered: 10_000,
  /** Knowledge of what has been revoked is asked for anew after this, in whole seconds below the 5 that are promised. */
  revocationAgeSeconds: 4,
  /** Nothing that a signing key signs lives longer: a day's credential is the longest. So long a retired key goes on verifying. */
  signedTokenSecondsMax: 24 * 60 * 60,
  /** A verifier's challenge is copied into the credential twice, and a credential must fit in a header or a form. */
  challengeBytes: 4096,
  /** Verifiers may keep the JWKS for so long. */
  jwksCacheSeconds: 5 * 60,
  /** An agent's request to be linked waits this long for a person: as long as that of a mandate. */
  linkRequestSeconds: 10 * 60,
  /** Of 20^8 codes; whoever mistypes more often has another agent before them. */
  wrongUserCodes: 5,
  /** A key is published for longer than a verifier keeps the JWKS before it signs; the minute is for fetching, and for caches between. */
  nextKeyPublishedSeconds: 6 * 60,
  /** A process may sign with a retired key until it has heard of the rotation, within seconds; clocks may differ by as much. */
  rotationLagSeconds: 5 * 60,
  /** The request of a mandate waits this long for a signature. */
  mandateRequestSeconds: 10 * 60,
  /** A mandate may run at most a year: after that, somebody should look at it again. */
  mandateValidSecondsMax: 365 * 24 * 60 * 60,
  /** An idempotent answer is replayed for a day. */
  idempotencySeconds: 24 * 60 * 60,
  /** One commit's transfers: beyond some hundreds a larger batch adds latency, and hardly any rate. */
  transferBatch: 256,
  /** A caller's name for a transfer: an id of ours with a word beside it, or a hash. */
  transferKeyCharacters: 200,
  /** Keys that pay with an environment's credits: one for each of its programs, and some to change over to. */
  creditKeysPerEnvironment: 100,
  /** A list page: a screenful unless asked for, and at most what one query reads in milliseconds. */
  pageSizeDefault: 20,
  pageSizeMax: 100,
  /** Connections that are still busy at shutdown get this long. */
  drainSeconds: 20,
} as const;
