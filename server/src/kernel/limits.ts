/** Every limit that isn't a setting, with the reason for its size. */
export const limits = {
  /** A management body is a form or a small document, never a file. */
  apiBodyBytes: 1024 * 1024,
  /** A priced request is buffered before it is forwarded. */
  gatewayRequestBytes: 1024 * 1024,
  /** A priced response is stored before it is charged: what fits in a row of 4 MiB can be fetched again, more is streamed. */
  storedResponseBytes: 4 * 1024 * 1024,
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
  /** Long enough for a slow model's answer; the 402's `maxTimeoutSeconds` leaves room for it. */
  upstreamTimeoutSeconds: 30,
  /** A paid stream that is cut can't be had again, and a model may think for a minute between two words. */
  streamIdleSeconds: 120,
  /** Time that a settlement may need after the upstream has answered. */
  settlementMarginSeconds: 30,
  /** Payments in one transaction: even where each payee is new, 200 stay below the 16.7 million gas of EIP-7825. */
  batchItems: 200,
  /** One commit's claims and answers: beyond some hundreds a larger batch adds latency, and hardly any rate. */
  paymentBatch: 256,
  /** A commit costs a millisecond or two of two processes; a call of a busy gateway waits for several things that take longer. */
  paymentBatchMs: 5,
  /**
   * What may be owed, in atomic units of USDC, by payments that were answered before they are settled: in all, to one server, and by
   * one payer. Beyond it a call waits for its settlement.
   */
  owedAtomic: { inAll: 1_000_000_000n, byServer: 100_000_000n, byPayer: 1_000_000n },
  /** What a batch may use: the transaction itself, and for each item what a payee who never held the token takes. */
  batchGasBase: 60_000n,
  batchGasPerItem: 75_000n,
  /** Whose settlement failed after the work was done may not begin another for an hour. */
  payerSuspensionSeconds: 60 * 60,
  /** What the 402 asks the payer to sign for: one attempt, its settlement, and a retry. */
  paymentTimeoutSeconds: 120,
  /**
   * How far ahead a payment may run out. What is to be settled must still be found then: its stored answer is kept for a day, and
   * its use looked for in the logs of some hours. The 402 asks for two minutes; the rest is for clocks that are wrong.
   */
  paymentValiditySecondsMax: 60 * 60,
  /** A stored response can be fetched again with the same payment for a day. */
  storedResponseSeconds: 24 * 60 * 60,
  /** Who has paid upfront and doesn't come back for the answer gets the money back after this long. */
  owedDeliverySeconds: 10 * 60,
  /** A refund is our own wallet's transfer: it may wait for as long as the chain may be away. */
  refundValiditySeconds: 24 * 60 * 60,
  /** Without the secret of the terms, a retry from the same place is honest only for a short while. */
  retryWithoutSecretSeconds: 5 * 60,
  /** A self-registered agent's token is short-lived: revocation needs no list then. */
  agentTokenSeconds: 15 * 60,
  /** Nothing that a signing key signs lives longer: a day's credential (seed 000). So long a retired key goes on verifying. */
  signedTokenSecondsMax: 24 * 60 * 60,
  /** A verifier's challenge is copied into the credential twice; seed 000 sets the size. */
  challengeBytes: 4096,
  /** Verifiers may keep the JWKS for so long. */
  jwksCacheSeconds: 5 * 60,
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
  /** A list page. */
  pageSizeDefault: 20,
  pageSizeMax: 100,
  /** Connections that are still busy at shutdown get this long. */
  drainSeconds: 20,
} as const;
